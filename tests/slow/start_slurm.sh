#!/usr/bin/env bash
# A one-host Slurm of two virtual nodes: start_slurm.sh DIRECTORY, as root, with Debian's slurm-wlm installed.
# Replaces /etc/slurm/slurm.conf: for machines that exist to run tests.
set -euo pipefail
root=$1
host=$(hostname -s)
mkdir -p "$root"/{state,log,spool.n1,spool.n2} /run/munge /etc/munge /etc/slurm
[ -f /etc/munge/munge.key ] || dd if=/dev/urandom of=/etc/munge/munge.key bs=1 count=1024 status=none
chown -R munge: /etc/munge /run/munge /var/lib/munge /var/log/munge
chmod 400 /etc/munge/munge.key
pgrep -x munged >/dev/null || runuser -u munge -- munged --force
cat >/etc/slurm/slurm.conf <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
StateSaveLocation=$root/state
SlurmctldPidFile=$root/slurmctld.pid
SlurmctldLogFile=$root/log/slurmctld.log
SlurmdPidFile=$root/slurmd.%n.pid
SlurmdLogFile=$root/log/slurmd.%n.log
SlurmdSpoolDir=$root/spool.%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
KillWait=5
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=17001 CPUs=4 State=UNKNOWN
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=17002 CPUs=4 State=UNKNOWN
PartitionName=debug Nodes=n[1-2] Default=YES MaxTime=INFINITE State=UP
CONF
slurmctld
slurmd -N n1
slurmd -N n2
for _ in $(seq 60); do
    [ "$(sinfo -h -t idle -o %D | awk '{ sum += $1 } END { print sum + 0 }')" = 2 ] && exit 0
    sleep 0.5
done
sinfo >&2
exit 1
