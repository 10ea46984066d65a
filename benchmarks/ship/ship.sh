#!/usr/bin/env bash
# The shipped models, made again from ../shared: training, conversion, proof, evidence, then bloodcell_edge/model/shipped.
# About two hours on two cores. What is finished is not done again: remove runs/ to begin anew.
set -euo pipefail
cd "$(dirname "$0")/../.."

bin=.venv/bin
photos=../shared/data/photos
pbc=../shared/data/pbc
raabin=../shared/data/raabin # of the locator alone
imagenet=../shared/weights/mobilenet_v2_1.0_imagenet_notop.weights.h5
evidence=benchmarks/ship/evidence
commit=$(git rev-parse --short=12 HEAD)
mkdir -p $evidence

train() { [ -f "runs/$1/metrics.json" ] || "$bin/bce" train "$photos" "$pbc" --name "$@"; }
prove() { [ -f "runs/$1/parity.json" ] || { "$bin/bce" convert "runs/$1" --force && "$bin/bce" parity "runs/$1"; }; }

# The locator first: classifiers learn from the crops that it gives.
[ -f runs/shipped-locator/metrics.json ] || "$bin/bce" train --locator "$photos" "$pbc" "$raabin" --name shipped-locator
[ -f runs/shipped-locator/parity.json ] || {
    "$bin/bce" convert runs/shipped-locator --int8 --force
    "$bin/bce" parity runs/shipped-locator
    $bin/python benchmarks/ship/relocate.py --locator runs/shipped-locator/locator-int8.tflite
}

left_out="$bin/python benchmarks/leave_one_source_out.py $photos $pbc --weights $imagenet"
$left_out --out runs/left-out --epochs 8 > $evidence/left-out.jsonl
$left_out --out runs/built-up --ingredients --epochs 3 > $evidence/built-up.jsonl

train shipped --recipe blood --weights "$imagenet"
prove shipped
$bin/python benchmarks/ood.py runs/shipped "$pbc" --json > $evidence/ood.json
$bin/python benchmarks/ship/ship.py runs/shipped --commit "$commit" # the small variant starts from its backbone

train shipped-small --recipe-file benchmarks/ship/small.json
prove shipped-small
known=(--commit "$commit" --left-out $evidence/left-out.jsonl --built-up $evidence/built-up.jsonl --ood $evidence/ood.json)
$bin/python benchmarks/ship/ship.py runs/shipped --small runs/shipped-small "${known[@]}"
$bin/bce benchmark bloodcell_edge/model/shipped/*.tflite --data "$photos" --json > $evidence/timed.json
$bin/python benchmarks/ship/ship.py runs/shipped --small runs/shipped-small "${known[@]}" --timed $evidence/timed.json
