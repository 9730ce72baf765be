#!/usr/bin/env bash
# A partition-fuzz campaign as a Slurm array: sbatch --array=0-7 deploy/slurm.sh SCENARIO [OPTION...]
# Each task runs its part of the seeds. Afterwards: ordain merge part-*.json
#SBATCH --job-name=ordain-fuzz
#SBATCH --cpus-per-task=2
#SBATCH --time=01:00:00
set -euo pipefail
exec "${ORDAIN:-ordain}" fuzz "$@" --partition auto --json >"part-$SLURM_ARRAY_TASK_ID.json"
