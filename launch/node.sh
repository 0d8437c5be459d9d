#!/usr/bin/env bash
# Starts the ranks of one node: node.sh [torchrun's options] -- [overrides]. Called by local.sh and slurm.sbatch.
#
# RANKS            ranks on this node; default: one per GPU or, without a GPU, one for every 8 cores
# OMP_NUM_THREADS  threads of each rank; default: an equal share of this node's cores
# PYTHON           default: the clone's .venv where no environment is active, then python, then python3
set -euo pipefail

home=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)

die() {
    echo "distkmeans: error: $1" >&2
    exit 2
}

find_python() {
    local name
    if [ -n "${PYTHON:-}" ]; then
        command -v "$PYTHON" || die "PYTHON=$PYTHON: no such program"
    elif [ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] && [ -x "$home/.venv/bin/python" ]; then
        echo "$home/.venv/bin/python"
    else
        for name in python python3; do
            command -v "$name" && return
        done
        die "no python here; set PYTHON to the one that distkmeans is installed for"
    fi
}

# As CUDA counts: CUDA_VISIBLE_DEVICES lists indices or UUIDs, and the first that is not there ends the list.
count_gpus() {
    local listed all name count=0
    listed=$(nvidia-smi -L 2>/dev/null) || listed=
    all=$(grep -c '^GPU ' <<<"$listed" || true)
    if [ -z "${CUDA_VISIBLE_DEVICES+set}" ]; then
        echo "$all"
        return
    fi
    for name in ${CUDA_VISIBLE_DEVICES//,/ }; do
        case $name in
        GPU-* | MIG-*) grep -qF "$name" <<<"$listed" || break ;;
        *[!0-9]*) break ;;
        *) ((10#$name < all)) || break ;;
        esac
        count=$((count + 1))
    done
    echo "$count"
}

# Those that this process may use; nproc would otherwise report OMP_NUM_THREADS.
count_cores() {
    local cores
    cores=$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)
    if ((${SLURM_CPUS_ON_NODE:-cores} < cores)); then
        cores=$SLURM_CPUS_ON_NODE
    fi
    echo "$cores"
}

options=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    options+=("$1")
    shift
done
shift

[ -f "$home/train.py" ] || die "$home: no train.py here"
python=$(find_python)
cores=$(count_cores)
if [ -z "${RANKS:-}" ]; then
    RANKS=$(count_gpus)
    [ "$RANKS" -gt 0 ] || RANKS=$(((cores + 7) / 8))
fi
[[ $RANKS =~ ^[1-9][0-9]*$ ]] || die "RANKS=$RANKS: expected a whole number, 1 or more"
share=$((cores > RANKS ? cores / RANKS : 1))
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$share}

exec "$python" -m torch.distributed.run --nproc-per-node="$RANKS" "${options[@]}" "$home/train.py" "$@"
