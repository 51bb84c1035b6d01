#!/usr/bin/env bash
# Prepares a machine of a cluster; may run again at any time: node.sh HOST:EXPORT NFS_VERSION aws|gcp
# Mounts the shared folder at /shared, installs the wheel beside this folder into ~/venv with the pinned versions.
set -euo pipefail
export=$1 version=$2 cloud=$3
project=$(cd "$(dirname "$0")/.." && pwd)

chmod 600 ~/.ray/auth_token
missing=()
for package in nfs-common python3-venv rsync tmux; do
    dpkg -s "$package" > /dev/null 2>&1 || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    sudo apt-get -o DPkg::Lock::Timeout=600 update -qq  # a fresh machine updates itself first
    sudo DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 install -y -qq --no-install-recommends "${missing[@]}"
fi

sudo mkdir -p /shared
if ! mountpoint -q /shared; then
    sudo mount -t nfs -o "vers=$version,hard,noresvport,rsize=1048576,wsize=1048576" "$export" /shared
    sudo chown "$(id -u):$(id -g)" /shared
fi

[ -x ~/venv/bin/python ] || python3 -m venv ~/venv
shopt -s nullglob
wheels=("$project"/dist/ray_image_tuning-*.whl)
if [ ${#wheels[@]} != 1 ]; then
    echo "error: $project/dist must hold one wheel of the project, has: ${wheels[*]:-none}" >&2
    exit 1
fi
~/venv/bin/pip install --quiet "${wheels[0]}[cluster,$cloud]" --constraint "$project/constraints.txt"
~/venv/bin/pip install --quiet --no-deps --force-reinstall "${wheels[0]}"  # its version stays when its code changes
