#!/usr/bin/env bash
# A real SLURM with two nodes of one core on this machine, for tests. Nothing is installed: the Debian packages are
# unpacked into FOLDER/root, and FOLDER/env holds the variables under which its commands work.
# usage: slurm_two_nodes.sh start|stop FOLDER
set -eu
folder=$(realpath -m "$2")
root=$folder/root
library=/usr/lib/$(uname -m)-linux-gnu
host=$(hostname -s)

stop() {
    for file in "$folder"/*.pid; do
        if [ -f "$file" ]; then kill "$(cat "$file")" 2>/dev/null || true; fi
    done
}

unpack() {
    mkdir -p "$folder/packages/partial" "$root"
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends --download-only \
        -o "Dir::Cache::archives=$folder/packages" --reinstall slurmctld slurmd slurm-client munge >/dev/null
    for package in "$folder"/packages/*.deb; do dpkg -x "$package" "$root"; done
    rm -r "$folder/packages"
}

configure() {
    cat > "$folder/slurm.conf" <<CONF
ClusterName=voxward
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=17000
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket,cred_expire=20
CryptoType=crypto/munge
PluginDir=$root$library/slurm-wlm
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool.%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.%n.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MailProg=/bin/true
KillWait=10
SlurmdTimeout=30
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=17001 CPUs=1 RealMemory=2000 State=UNKNOWN
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=17002 CPUs=1 RealMemory=2000 State=UNKNOWN
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
CONF
    cat > "$folder/env" <<ENV
PATH=$root/usr/bin:$root/usr/sbin:$PATH
LD_LIBRARY_PATH=$root$library/slurm-wlm:$root$library
SLURM_CONF=$folder/slurm.conf
ENV
}

start() {
    mkdir -p "$folder/state" "$folder/spool.n1" "$folder/spool.n2"
    chmod 755 "$folder"
    [ -x "$root/usr/bin/srun" ] || unpack
    configure
    set -a
    # shellcheck disable=SC1091
    . "$folder/env"
    set +a
    dd if=/dev/urandom of="$folder/munge.key" bs=1024 count=1 2>/dev/null
    chmod 400 "$folder/munge.key"
    munged --force --socket="$folder/munge.socket" --key-file="$folder/munge.key" --pid-file="$folder/munged.pid" \
        --log-file="$folder/munged.log" --seed-file="$folder/munge.seed"
    slurmctld-wlm -c
    for node in n1 n2; do slurmd-wlm -N "$node" -d "$root/usr/sbin/slurmstepd-wlm"; done
    for _ in $(seq 30); do
        if [ "$(sinfo --noheader --format=%T)" = idle ]; then sinfo; return; fi
        sleep 1
    done
    sinfo
    cat "$folder"/*.log
    exit 1
}

"$1"
