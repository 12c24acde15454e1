#!/bin/sh
# What each parameter file would deploy, as JSON beside it: every resource with its name and
# properties. `infra/snapshot.sh overwrite` writes the files after a change of the templates;
# `infra/snapshot.sh validate` compares, and fails if they differ. It needs `bicep` on the PATH.
set -eu

mode=${1:?overwrite or validate}
cd "$(dirname "$0")"

# Nothing real, so that everybody gets the same names.
export API_KEYS=golden-key IMAGE_TAG=golden ALERT_EMAIL=operator@example.org
export KEY_VAULT=golden-vault OPERATOR_ID=00000000-0000-0000-0000-00000000000a

for file in dev prod; do
  bicep snapshot "$file.bicepparam" --mode "$mode" \
    --tenant-id 00000000-0000-0000-0000-000000000002 \
    --subscription-id 00000000-0000-0000-0000-000000000001 \
    --resource-group heart-scorer --location westeurope --deployment-name heart-scorer
done
