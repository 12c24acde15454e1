// Asks for a batch's state until it is finished.

import { Refused, getJson } from "./client.js";

const USUAL = 2; // seconds between two requests
const LONGEST = 30; // the same when nothing changes or the server does not answer
const FINAL = new Set(["succeeded", "failed", "cancelled"]);

export const isFinal = (status) => FINAL.has(status);
export const path = (id) => `batches/${encodeURIComponent(id)}`;

/**
 * Tells `onState` each state and `onTrouble` each refusal; ends with a final state, with an answer
 * that will not change, or when `stop` is called.
 */
export function follow(id, onState, onTrouble) {
  const stopped = new AbortController();
  let timer;
  let pause = USUAL;

  async function ask() {
    try {
      const state = await getJson(path(id), { signal: stopped.signal });
      pause = Math.min(state.status === "queued" ? pause * 1.2 : USUAL, 10);
      onState(state);
      if (isFinal(state.status)) return;
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!(error instanceof Refused)) throw error;
      const passes = error.status === 0 || error.status === 429 || error.status >= 500;
      onTrouble(error, passes);
      if (!passes) return;
      pause = Math.min(error.retryAfter ?? pause * 2, LONGEST);
    }
    timer = setTimeout(ask, pause * 1000);
  }

  ask();
  return () => {
    clearTimeout(timer);
    stopped.abort();
  };
}
