"""`python -m utils.pretrain`: fetch, render, train, export, evaluate, describe. `--eval`: only measure what is in models/."""

import argparse

try:
    from utils.pretrain import evaluate, export, train
    from utils.pretrain.drawings import PretrainError, prepare
except ModuleNotFoundError as error:
    raise SystemExit(f"pretrain: the package {error.name!r} is missing; `make pretrain` installs it") from None


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--eval", action="store_true", help="only measure the exported model")
    only_measure = parser.parse_args().eval
    drawings = prepare(train.FOLDER)
    if only_measure:
        complain(evaluate.measure(export.MODEL, drawings))
        return
    model, history = train.train(train.RECIPE, drawings)
    export.export_model(model, train.RECIPE, train.FOLDER)
    export.export_history(history, train.RECIPE)
    export.export_sample(drawings)
    export.export_sheet(drawings)
    results = evaluate.measure(export.MODEL, drawings)
    export.write_card(history, train.RECIPE, results, drawings)
    complain(results)


def complain(results):
    """End with an error if a score is below its floor; everything is written by then."""
    missed = evaluate.missed_floors(results["scores"])
    if missed:
        raise PretrainError(f"below the floor: {'; '.join(missed)}")


if __name__ == "__main__":
    try:
        main()
    except PretrainError as error:
        raise SystemExit(f"pretrain: {error}") from None
