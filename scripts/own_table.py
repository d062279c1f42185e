"""Train a VAE on your own table: fill gaps, generate rows, and find anomalous rows.

    python scripts/own_table.py clients.csv
    python scripts/own_table.py penguins --kind year=ordinal

The table can be a CSV, TSV, Parquet or Excel file with numbers, texts and missing entries.
`penguins` is a table that keras_gen contains. Its training takes about a minute on two cores.
"""

import argparse
import pathlib

import keras
import numpy as np

from keras_gen import VAE, data, distributions, networks, objectives


def column_and_kind(text):
    """Split `COLUMN=KIND` into the name of the column and the name of the kind."""
    column, equals, kind = text.rpartition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"Expected COLUMN=KIND. Received: {text}.")
    return column, kind


def main():
    """Train a VAE, and write the completed, the generated and the scored rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", nargs="?", default="penguins", help="file of the table")
    parser.add_argument(
        "--kind",
        type=column_and_kind,
        nargs="*",
        default=[],
        metavar="COLUMN=KIND",
        help="kind of a column",
    )
    parser.add_argument("--epochs", type=int, default=200, help="passes over the training rows")
    parser.add_argument("--rows", type=int, default=100, help="number of rows to generate")
    parser.add_argument("--output", type=pathlib.Path, default="own_table", help="result folder")
    arguments = parser.parse_args()
    keras.utils.set_random_seed(0)

    # 1. Data. Check the printed kinds: a postal code is a category, although it looks like a
    # number. `table.train` is a float32 array in the units of the table, NaN where an entry is
    # missing.
    table = data.read_table(arguments.table, kinds=dict(arguments.kind))
    print(table.columns)

    # 2. Model. The likelihood of a row is the product of one distribution per column. Missing
    # entries add nothing to it. `ColumnFeatures` standardizes the numbers, and encodes categories.
    likelihood = distributions.Columns(table.columns)
    posterior = distributions.DiagonalNormal(8)
    vae = VAE(
        encoder=networks.mlp(
            likelihood.event_shape,
            (posterior.parameter_size,),
            hidden=(128, 128),
            features=networks.ColumnFeatures(table.columns),
        ),
        decoder=networks.mlp((8,), likelihood.parameter_shape, hidden=(128, 128)),
        posterior=posterior,
        likelihood=likelihood,
        seed=0,
    )

    # 3. Training. With missing entries, the bound of the importance-weighted autoencoder is a
    # better objective than the ELBO (Mattei & Frellsen 2019, arXiv:1812.02633).
    vae.compile("adam", objective=objectives.IWAE(num_samples=20))
    vae.fit(table.train, batch_size=64, epochs=arguments.epochs, verbose=0)
    arguments.output.mkdir(parents=True, exist_ok=True)

    # 4. Gaps. A missing number is replaced by its mean given the other entries of the row.
    rows = np.concatenate([table.train, table.test])
    complete = table.to_frame(vae.impute(rows, seed=0))
    complete.to_csv(arguments.output / "complete.csv", index=False)

    # 5. New rows. They have the names, categories, units and decimals of the table.
    generated = table.to_frame(vae.generate(arguments.rows, seed=0))
    generated.to_csv(arguments.output / "generated.csv", index=False)
    print(generated.head().to_string(index=False))

    # 6. Anomalies. `score_per_feature` says which column makes a row anomalous.
    scored = table.to_frame(rows)
    scored["anomaly_score"] = vae.score(rows).numpy()
    largest = np.argmax(vae.score_per_feature(rows), axis=1)
    scored["column"] = [vae.columns[index].name for index in largest]
    scored = scored.sort_values("anomaly_score", ascending=False)
    scored.to_csv(arguments.output / "scores.csv", index=False)

    vae.save(arguments.output / "vae.keras")
    print(f"The tables and the model are in {arguments.output}.")


if __name__ == "__main__":
    main()
