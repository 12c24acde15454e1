// Score one patient with the types that openapi-typescript makes of the API's document.
import createClient from "openapi-fetch";
import type { paths } from "./api.js";

const client = createClient<paths>({ baseUrl: process.argv[2] });

const { data, error } = await client.POST("/predict", { body: { age: 63, sex: "male" } });

if (error) throw new Error(error.detail);
const probability: number = data.probability;
const prediction: 0 | 1 = data.prediction;
console.log(JSON.stringify({ probability, prediction }));
