#!/usr/bin/env bash
# The contrastive searches of docs/results/controller.md: five samplers at equal trials, nao with a pretrained
# controller, with one that only reconstructs, and with one from scratch, each with several seeds.
# About an hour on one core. Stop it when you like: the same command goes on where it stopped.
#   PYTHON=.venv/bin/python DATA=../shared/data MARGIN=RUN_ID NOMETRIC=RUN_ID bash benchmarks/samplers_on_images.sh [SEED ...]
# MARGIN and NOMETRIC are runs of controller-pretrain on darts5.
set -euo pipefail
python=${PYTHON:-python}
data=${DATA:-../shared/data}
export OMP_NUM_THREADS=1

[ -f data/ham224/manifest.json ] || "$python" -m pipelines.prepare --dataset isic2019 --source isic \
    --root "$data/isic2019_ham224_2k" --out data/ham224 --split_sizes "[0.7,0.15,0.15]"

search() { # arm seed, then keys
    local arm=$1 seed=$2
    shift 2
    "$python" -m pipelines.search --data data/ham224 --study "small-$arm-$seed" --seed "$seed" --trials 32 --images 100 \
        --nodes 5 --epochs 2 --channels 8 --layers 3 --batch_size 50 --width 64 --learning_rate 0.01 --threads 1 "$@"
}

[ $# -gt 0 ] || set -- 0 1 2
for seed in "$@"; do
    search random "$seed" --sampler random
    search tpe "$seed" --sampler tpe
    search evolution "$seed" --sampler evolution --population 12 --tournament 12
    search local "$seed" --sampler local
    for controller in "${MARGIN:?}" "${NOMETRIC:?}" scratch; do
        case $controller in "$MARGIN") arm=margin ;; "$NOMETRIC") arm=nometric ;; *) arm=scratch ;; esac
        search "nao-$arm" "$seed" --sampler nao --controller "$controller" --nao_initial 12 --nao_seeds 12 --nao_count 5
    done
done
