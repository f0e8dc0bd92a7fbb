"""`python -m utils.pretrain`: make the bundled SigLIP. `--vlm`: make the bundled VLM. `--eval`: only measure both."""

import argparse

try:
    from utils.pretrain import evaluate, export, train, vlm, vlm_export
    from utils.pretrain.drawings import PretrainError, prepare, prepare_test
except ModuleNotFoundError as error:
    raise SystemExit(f"pretrain: the package {error.name!r} is missing; `make pretrain` installs it") from None


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vlm", action="store_true", help="make models/paligemma-mini-224")
    parser.add_argument("--eval", action="store_true", help="only measure the exported models")
    chosen = parser.parse_args()
    drawings = prepare(train.FOLDER)
    if chosen.eval:
        siglip = evaluate.measure(export.MODEL, drawings, prepare_test(train.FOLDER))
        captions, _ = vlm_export.measure(drawings)
        missed = evaluate.missed_floors(siglip["scores"]) + vlm_export.missed_floors(captions)
    else:
        missed = make_vlm(drawings) if chosen.vlm else make_siglip(drawings)
    if missed:
        raise PretrainError(f"below the floor: {'; '.join(missed)}")


def make_siglip(drawings):
    """Train and write everything; return the floors that were missed."""
    test_drawings = prepare_test(train.FOLDER)  # now, so that a missing network stops nothing after hours of training
    model, history = train.train(train.RECIPE, drawings)
    export.export_model(model, train.RECIPE, train.FOLDER)
    export.export_history(history, train.RECIPE)
    export.export_sample(drawings)
    export.export_sheet(drawings)
    results = evaluate.measure(export.MODEL, drawings, test_drawings)
    export.write_card(history, train.RECIPE, results, drawings)
    return evaluate.missed_floors(results["scores"])


def make_vlm(drawings):
    """The same for the VLM, on the tower that lies in models/."""
    model, processor, history = vlm.train(vlm.RECIPE, drawings)
    vlm_export.export_model(model, processor)
    vlm_export.export_scenes(drawings)
    scores, mistakes = vlm_export.measure(drawings)
    vlm_export.write_card(model, history, vlm.RECIPE, scores, mistakes)
    return vlm_export.missed_floors(scores)


if __name__ == "__main__":
    try:
        main()
    except PretrainError as error:
        raise SystemExit(f"pretrain: {error}") from None
