#!/usr/bin/env bash
# Prints cluster/aws.yaml with what the stack of cluster/aws-base.yaml made: bash cluster/aws.sh [STACK] > cluster/my-aws.yaml
set -euo pipefail
[ -e ~/.ray/auth_token ] || ray get-auth-token --generate > /dev/null  # which the recipe copies to the nodes
stack=${1:-ray-image-tuning}
region=$(aws configure get region)
image=$(aws ssm get-parameter --output text --query Parameter.Value \
    --name /aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id)
output() {
    local value
    value=$(aws cloudformation describe-stacks --stack-name "$stack" --output text \
        --query "Stacks[0].Outputs[?OutputKey=='$1'].OutputValue")
    [ -n "$value" ] || { echo "error: stack $stack has no output $1; deploy cluster/aws-base.yaml first" >&2; return 1; }
    echo "$value"
}
group=$(output SecurityGroup)
shared=$(output Shared)
subnet=$(output Subnet)
type=$(output WorkerType)
sed -e "s|<region>|$region|" -e "s|<image>|$image|" -e "s|<security-group>|$group|" -e "s|<shared>|$shared|" \
    -e "s|<subnet>|$subnet|" -e "s|<worker-type>|$type|" "$(dirname "$0")/aws.yaml"
