#!/usr/bin/env bash
# The trainings of docs/results/training-on-real-images.md: a found and a published genotype from scratch, lite0 with
# ImageNet weights and without, on ISIC; the grouped against the paper's ungrouped split; a CIFAR network.
# About two hours on one core. Stop it when you like: the same command goes on where it stopped.
#   PYTHON=.venv/bin/python DATA=../shared/data bash benchmarks/train_on_real_images.sh
# Runs, studies and prepared data go to the working folder's mlflow.db, studies.db, outputs/ and data/.
set -euo pipefail
python=${PYTHON:-python}
images=${DATA:-../shared/data}
recipes=$(dirname "$0")/../pipelines/recipes
export OMP_NUM_THREADS=1

prepare() { # dataset source folder images, further arguments
    local target="data/$3"
    [ -f "$target/manifest.json" ] || "$python" -m pipelines.prepare \
        --dataset "$1" --source "$2" --root "$images/$4" --out "$target" --workers 1 "${@:5}"
}

isic() { # train or benchmark, folder, epochs, further arguments; prints "run ID"
    "$python" -m "pipelines.$1" --config "$recipes/isic2019.yaml" --data "data/$2" --epochs "$3" --threads 1 --runs 1 \
        --size 96 --cutout 8 --batch_size 32 --learning_rate 0.025 "${@:4}"
}

evaluate() { # reads "run ID"
    local word id
    read -r word id
    "$python" -m pipelines.evaluate --config "$recipes/isic2019.yaml" --run "$id" --threads 1
}

network=(--layers 8 --channels 24)
lite0=(--models "[tf_efficientnet_lite0]")

prepare isic2019 isic ham224 isic2019_ham224_2k --split_sizes "[0.7,0.15,0.15]"
"$python" -m pipelines.search --data data/ham224 --sampler tpe --trials 28 --images 400 --study ham224-tpe-0 --seed 0 \
    --nodes 5 --epochs 3 --channels 8 --layers 5 --batch_size 100 --width 128 --learning_rate 0.01 --threads 1
isic train ham224 25 --genotype latest "${network[@]}" | evaluate
isic train ham224 25 --genotype DermoCSNAS_4 "${network[@]}" | evaluate
isic benchmark ham224 25 "${lite0[@]}" | evaluate
isic benchmark ham224 25 "${lite0[@]}" --weights none | evaluate

prepare cifar10 cifar cifar10_5k cifar10_5k
"$python" -m pipelines.train --config "$recipes/cifar10.yaml" --data data/cifar10_5k --threads 1 --runs 1 --epochs 8 \
    --warmup 1 --genotype DARTS_V2 --layers 8 --channels 16 --batch_size 64 | evaluate

for split in lesion paper; do
    prepare isic2019 isic "mixed180-$split" isic2019_mixed180 --split "$split"
    isic benchmark "mixed180-$split" 10 "${lite0[@]}" | evaluate
    isic train "mixed180-$split" 20 --genotype DermoCSNAS_4 "${network[@]}" | evaluate
done
for folder in ham224 mixed180-lesion mixed180-paper; do
    "$python" -m pipelines.compare --config "$recipes/isic2019.yaml" --data "data/$folder"
done
