#!/bin/sh
# For azd: builds both images in the registry, unless this commit's are there already, and
# tells azd their tag, so that its next provision deploys them.
set -eu

tag=$(git rev-parse --short=12 HEAD)
for app in api worker; do
  image="heart-scorer-$app:$tag"
  az acr repository show --name "${registryName:?}" --image "$image" >/dev/null 2>&1 ||
    az acr build --registry "$registryName" --file "Dockerfile.$app" --image "$image" .
done
azd env set IMAGE_TAG "$tag"
