#!/bin/sh
# For azd: builds both images in the registry, unless those of this code are there already, and
# tells azd their tag, so that its next provision deploys them. ARTIFACT=artifact takes the model
# from that folder (EXTRA=training if scikit-learn must serve it).
set -eu

sources="api worker shared training requirements Dockerfile.api Dockerfile.worker ${ARTIFACT:-}"

in_azure() { az "$@" --subscription "${AZURE_SUBSCRIPTION_ID:?}" --only-show-errors; }
digest() { openssl dgst -sha256 -r | cut -c 1-12; }

# The tag names the code: its commit, or the content of the files where no commit is the same.
# The names hold no spaces.
# shellcheck disable=SC2086
content=$(find $sources -type f ! -name "*.pyc" -exec openssl dgst -sha256 -r {} + | LC_ALL=C sort | digest)
# shellcheck disable=SC2086
changed() { [ -n "${ARTIFACT:-}" ] || [ -n "$(git status --porcelain -- $sources)" ]; }
if ! commit=$(git rev-parse --verify --quiet --short=12 HEAD 2>/dev/null); then
  tag=files-$content
  echo "Deploying the files of this folder, which have no commit, as $tag."
elif changed; then
  tag=$commit-$content
  echo "Deploying commit $commit with uncommitted edits or a model of your own, as $tag."
else
  tag=$commit
  echo "Deploying commit $commit."
fi

# Docker Hub often refuses build agents, which share their addresses: build from a copy of the base.
base=$(sed -n "s/^ARG PYTHON=//p" Dockerfile.api)
in_azure acr repository show --name "${registryName:?}" --image "$base" >/dev/null 2>&1 ||
  in_azure acr import --name "$registryName" --source "docker.io/library/$base" --image "$base"

for app in api worker; do
  image="heart-scorer-$app:$tag"
  in_azure acr repository show --name "$registryName" --image "$image" >/dev/null 2>&1 ||
    in_azure acr build --registry "$registryName" --file "Dockerfile.$app" --image "$image" \
      --build-arg "PYTHON=${registryServer:?}/$base" --build-arg "REVISION=$tag" \
      --build-arg "ARTIFACT=${ARTIFACT:-}" --build-arg "EXTRA=${EXTRA:-}" .
done
azd env set IMAGE_TAG "$tag"
