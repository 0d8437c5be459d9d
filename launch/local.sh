#!/usr/bin/env bash
# k-means on all of this machine: its GPUs where there are any, otherwise its cores. Arguments are train.py's.
#
#   launch/local.sh k=64 data=npy data.path='shards/*.npy'
#   RANKS=4 launch/local.sh data=digits k=10
#   CUDA_VISIBLE_DEVICES=0,1 launch/local.sh k=1024 data=npy data.path=embeddings.npy
#
# Relative paths are relative to where you are. The exit status is not zero if any rank fails. Environment:
#
# RANKS            processes to start; default: one per GPU or, without a GPU, one for every 8 cores
# OMP_NUM_THREADS  threads of each; default: an equal share of the cores
# PYTHON           default: the clone's .venv where no environment is active, then python, then python3
set -euo pipefail

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
exec bash "$here/node.sh" --standalone --local-addr=127.0.0.1 -- "$@"
