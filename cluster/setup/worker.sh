#!/usr/bin/env bash
# Makes a prepared machine a worker that leaves the cluster in order when its cloud takes it: worker.sh aws|gcp, before `ray start`.
# Google's 30 seconds begin with a shutdown, which waits for the watcher as long as logind lets it.
set -euo pipefail
cloud=$1 user=$(id -un)
sudo mkdir -p /etc/systemd/logind.conf.d
sudo tee /etc/systemd/logind.conf.d/spot-notice.conf > /dev/null << CONF
[Login]
InhibitDelayMaxSec=25
CONF
sudo systemctl kill --signal=HUP systemd-logind  # reads it again
sudo tee /etc/systemd/system/spot-notice.service > /dev/null << UNIT
[Unit]
Description=Leaves the Ray cluster when the cloud takes this machine
[Service]
User=$user
Environment=RAY_AUTH_MODE=token PYTHONUNBUFFERED=1
ExecStart=/usr/bin/systemd-inhibit --what=shutdown --mode=delay --who=Ray --why=trials-move $HOME/venv/bin/python -m cluster.spot_notice $cloud
Restart=on-failure
UNIT
sudo systemctl daemon-reload
sudo systemctl restart spot-notice
