#!/usr/bin/env bash
# Makes a prepared machine the head; may run again at any time. PostgreSQL and MLflow on it, both on loopback alone.
# PostgreSQL knows us by our Linux user over its socket: there is no password to keep.
set -euo pipefail
if ! dpkg -s postgresql > /dev/null 2>&1; then
    sudo DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 install -y -qq --no-install-recommends postgresql
fi
user=$(id -un)
as_postgres() { (cd / && sudo -u postgres "$@"); }
for _ in {1..60}; do
    if as_postgres pg_isready --quiet; then break; fi
    sleep 1
done
[ "$(as_postgres psql -tAc "SELECT 1 FROM pg_roles WHERE rolname = '$user'")" = 1 ] || as_postgres createuser "$user"
[ "$(as_postgres psql -tAc "SELECT 1 FROM pg_database WHERE datname = 'mlflow'")" = 1 ] || as_postgres createdb --owner "$user" mlflow

mkdir -p /shared/mlartifacts
sudo tee /etc/systemd/system/mlflow.service > /dev/null << UNIT
[Unit]
Description=MLflow
After=postgresql.service network-online.target
[Service]
User=$user
Environment=MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
ExecStart=$HOME/venv/bin/mlflow server --workers 2 --host 127.0.0.1 --port 5000 --backend-store-uri postgresql:///mlflow?host=/var/run/postgresql --artifacts-destination /shared/mlartifacts
Restart=on-failure
[Install]
WantedBy=multi-user.target
UNIT
sudo systemctl daemon-reload
sudo systemctl enable --quiet mlflow
sudo systemctl restart mlflow
