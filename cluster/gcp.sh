#!/usr/bin/env bash
# Makes what a cluster on Google Cloud needs before `ray up`, where it is not there yet, and prints cluster/gcp.yaml with it:
# bash cluster/gcp.sh PROJECT ZONE ADDRESS > cluster/my-gcp.yaml; ADDRESS may log in, such as 203.0.113.7/32.
set -euo pipefail
[ -e ~/.ray/auth_token ] || ray get-auth-token --generate > /dev/null  # which the recipe copies to the nodes
[ $# = 3 ] || { echo "error: wants PROJECT ZONE ADDRESS, such as my-project us-central1-a 203.0.113.7/32" >&2; exit 2; }
project=$1 zone=$2 address=$3
region=${zone%-*}
name=ray-image-tuning

cloud() { gcloud --project "$project" --quiet "$@"; }
# ensure GROUP... -- DESCRIBE... -- CREATE...: makes what cannot be described
ensure() {
    local group=() describe=()
    while [ "$1" != -- ]; do group+=("$1"); shift; done; shift
    while [ "$1" != -- ]; do describe+=("$1"); shift; done; shift
    cloud "${group[@]}" describe "${describe[@]}" > /dev/null 2>&1 || cloud "${group[@]}" create "${describe[@]}" "$@" >&2
}

cloud services enable compute.googleapis.com file.googleapis.com iam.googleapis.com cloudresourcemanager.googleapis.com >&2
ensure compute networks -- "$name" -- --subnet-mode=custom
ensure compute networks subnets -- "$name" --region="$region" -- --network="$name" --range=10.10.0.0/20
ensure compute firewall-rules -- "$name-ssh" -- --network="$name" --allow=tcp:22 --source-ranges="$address"
ensure compute firewall-rules -- "$name-nodes" -- --network="$name" --allow=tcp,udp,icmp --source-ranges=10.10.0.0/20
ensure filestore instances -- "$name" --zone="$zone" -- \
    --tier=BASIC_HDD --file-share=name=shared,capacity=1TiB --network="name=$name"
server=$(cloud filestore instances describe "$name" --zone="$zone" --format='value(networks[0].ipAddresses[0])')
image=$(gcloud compute images list --project=ubuntu-os-accelerator-images --sort-by=~creationTimestamp --limit=1 \
    --filter='family~^ubuntu-accelerator-2404-amd64-with-nvidia' --format='value(selfLink)')
[ -n "$image" ] || { echo "error: no Ubuntu 24.04 image with NVIDIA's driver; see gcloud compute images list" >&2; exit 1; }

sed -e "s|<project>|$project|" -e "s|<region>|$region|" -e "s|<zone>|$zone|" -e "s|<image>|$image|" \
    -e "s|<shared>|$server:/shared|" "$(dirname "$0")/gcp.yaml"
