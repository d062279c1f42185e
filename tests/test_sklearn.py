"""The estimator for scikit-learn: its conventions, tables, pipelines, pickles."""

import functools
import pickle
import subprocess
import sys

import keras
import numpy as np
import pandas
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PowerTransformer
from sklearn.utils.estimator_checks import (
    check_dataframe_column_names_consistency,
    check_estimator,
    check_methods_subset_invariance,
    check_outliers_fit_predict,
    check_outliers_train,
)

import keras_gen
from keras_gen import GAN, VAE, AutoencoderEnsemble, distributions, networks
from keras_gen.sklearn import AnomalyDetector, _by_batch

RANDOM = np.random.default_rng(0)
X = RANDOM.normal([10.0, -200.0, 0.0], [1.0, 30.0, 0.1], (60, 3))
X[7, 1] = 500.0
FIT = {"epochs": 1, "steps_per_epoch": 4}


def small(features, seed=None, num_members=2):
    """Make an ensemble that trains without a graph, which would take a second."""
    model = AutoencoderEnsemble(
        features,
        num_members,
        subset_sizes=(16,),
        latent_sizes=(1,),
        hidden_size=4,
        seed=seed,
    )
    model.compile(keras.optimizers.Adam(1e-2), run_eagerly=True)
    return model


def detector(**arguments):
    return AnomalyDetector(**{"model": small, "fit_arguments": FIT, "random_state": 0, **arguments})


@pytest.fixture(scope="module")
def fitted():
    return detector().fit(X)


def frame():
    random = np.random.default_rng(1)
    table = pandas.DataFrame(
        {
            "mass": random.normal(50, 5, 80),
            "color": random.choice(["red", "blue"], 80),
            "place": ["x"] * 80,
            "shape": random.choice(["a", "b", "c"], 80),
        },
        index=[f"row {number}" for number in range(80)],
    )
    table.loc["row 3", "color"] = "green"
    table.loc["row 5", "mass"] = np.nan
    return table


def test_all_checks_of_scikit_learn_pass():
    check_estimator(detector(random_state=None), on_skip=None)


@pytest.mark.parametrize(
    "check",
    [
        check_outliers_train,
        check_outliers_fit_predict,
        check_methods_subset_invariance,
        check_dataframe_column_names_consistency,
    ],
)
def test_the_checks_of_outlier_detectors_pass(check):
    check("AnomalyDetector", detector(random_state=None))


def test_scores_have_the_opposite_sign_of_those_of_the_model(fitted):
    scores = fitted.model_.score(X).numpy()
    np.testing.assert_allclose(fitted.score_samples(X), -scores, rtol=1e-5)
    offset = np.percentile(-scores, 10)
    assert fitted.offset_ == pytest.approx(offset)
    np.testing.assert_allclose(fitted.decision_function(X), -scores - offset, rtol=1e-4, atol=1e-5)
    labels = fitted.predict(X)
    np.testing.assert_array_equal(labels, np.where(-scores < offset, -1, 1))
    assert np.sum(labels == -1) == 6
    assert np.argmin(fitted.score_samples(X)) == 7
    assert fitted.n_features_in_ == 3
    assert fitted.columns_ is None


def test_an_estimator_must_be_fitted_first():
    estimator = detector()
    names = ("score_samples", "decision_function", "predict", "score_per_feature")
    for method in (getattr(estimator, name) for name in names):
        with pytest.raises(NotFittedError, match="not fitted yet"):
            method(X)
    assert estimator.__sklearn_tags__().input_tags.allow_nan
    with pytest.raises(ValueError, match=r"2-dimensional|2D array"):
        estimator.fit(pandas.Series(X[:, 0]))


@pytest.mark.parametrize("given", [None, {"epochs": 3}, {"epochs": 3, "verbose": 2}])
def test_the_arguments_of_fit_reach_the_model(given, monkeypatch):
    def fit(model, rows, **arguments):
        np.testing.assert_array_equal(rows, X)
        raise InterruptedError(arguments)

    monkeypatch.setattr(AutoencoderEnsemble, "fit", fit)
    with pytest.raises(InterruptedError) as stopped:
        detector(fit_arguments=given).fit(X)
    assert stopped.value.args[0] == {"verbose": 0, **(given or {})}


@pytest.mark.parametrize("random_state", [0, np.random.RandomState(3)])
def test_the_seed_of_the_model_is_a_random_int32_as_in_scikit_learn(random_state):
    def stop(features, seed):
        assert (features, type(seed)) == (3, int)
        raise InterruptedError(seed)

    expected = np.random.RandomState(0 if random_state == 0 else 3)
    with pytest.raises(InterruptedError) as stopped:
        detector(model=stop, random_state=random_state).fit(X)
    assert stopped.value.args == (expected.randint(np.iinfo(np.int32).max),)


def test_the_model_flags_the_rows_that_the_estimator_predicts(fitted):
    flags = fitted.model_.is_anomaly(X).numpy()
    np.testing.assert_array_equal(fitted.predict(X) == -1, flags)
    # The model compares in float32, so another offset could decide otherwise.
    assert float(np.float32(fitted.offset_)) == fitted.offset_
    tie = detector(contamination=0.5).fit(np.repeat(X[:2], 10, axis=0))
    both = np.repeat(X[:2], 10, axis=0)
    np.testing.assert_array_equal(tie.predict(both) == -1, tie.model_.is_anomaly(both))


def test_missing_entries_are_accepted_and_a_row_without_entries_is_an_anomaly(fitted):
    holes = X[:3].copy()
    holes[0, 1] = np.nan
    holes[1] = np.nan
    labels = fitted.predict(holes)
    assert labels[1] == -1
    assert np.isfinite(fitted.score_samples(holes)[[0, 2]]).all()
    assert fitted.score_per_feature(holes)[0, 1] == 0
    assert np.argmax(fitted.score_per_feature(X)[7]) == 1


@pytest.mark.parametrize("count", [1, 256, 300])
def test_all_batches_have_the_same_size(count):
    sizes = []
    rows = np.arange(2.0 * count).reshape(count, 2)

    def first(batch):
        sizes.append(len(batch))
        return batch[:, 0]

    np.testing.assert_array_equal(_by_batch(first, rows), rows[:, 0])
    assert set(sizes) == {256}


def test_a_score_of_nan_is_an_anomaly(fitted, monkeypatch):
    monkeypatch.setattr(type(fitted.model_), "score", lambda self, x: np.full(len(x), np.nan))
    np.testing.assert_array_equal(fitted.predict(X[:3]), [-1, -1, -1])


def test_the_default_is_the_ensemble():
    model = AnomalyDetector(fit_arguments=FIT, random_state=0).fit(X).model_
    assert type(model) is AutoencoderEnsemble
    assert (model.num_members, model.data_shape) == (48, (3,))


def test_a_table_is_read_and_explained_by_column():
    table = frame()
    estimator = detector(contamination=0.05).fit(table)
    assert [column.kind for column in estimator.columns_] == [
        "positive",
        "category",
        "constant",
        "category",
    ]
    np.testing.assert_array_equal(estimator.feature_names_in_, table.columns)
    assert estimator.n_features_in_ == 4
    scores = estimator.score_samples(table)
    parts = estimator.score_per_feature(table)
    assert list(parts.columns) == ["mass", "color", "shape"]
    assert list(parts.index) == list(table.index)
    np.testing.assert_allclose(parts.sum(axis=1), -scores, rtol=1e-4)
    assert parts["color"].idxmax() == "row 3"
    # The order of the rows is that of the DataFrame, and the order of columns does not matter.
    np.testing.assert_allclose(estimator.score_samples(table[::-1])[::-1], scores)
    rows = estimator.model_.score(table_rows(estimator, table))
    np.testing.assert_allclose(-rows, scores, rtol=1e-5)
    with pytest.raises(ValueError, match="Expected `X` as a DataFrame"):
        estimator.predict(table.to_numpy())
    with pytest.raises(ValueError, match="feature names should match"):
        estimator.predict(table.rename(columns={"mass": "weight"}))
    with pytest.raises(ValueError, match="Expected at least one row"):
        estimator.predict(table[:0])


def table_rows(estimator, table):
    """Encode a `DataFrame` with pandas alone: numbers as they are, categories as codes."""
    columns = [column for column in estimator.columns_ if column.modeled]
    encoded = [
        pandas.Categorical(table[column.name], column.categories).codes
        if column.categories
        else table[column.name]
        for column in columns
    ]
    return np.stack(encoded, axis=1).astype("float32")


def test_an_unseen_category_is_an_error_or_missing():
    table = frame()
    new = table[:2].assign(color="purple")
    with pytest.raises(ValueError, match="purple"):
        detector().fit(table).predict(new)
    lenient = detector(unseen="missing").fit(table)
    np.testing.assert_array_equal(lenient.score_per_feature(new)["color"], [0, 0])


def test_kinds_let_numbers_be_categories():
    table = pandas.DataFrame({"code": np.arange(60) % 7 + 100, "x": X[:, 0]})
    assert detector().fit(table).columns_ is None
    estimator = detector(kinds={"code": "category"}).fit(table)
    assert [column.kind for column in estimator.columns_] == ["category", "positive"]
    assert np.isfinite(estimator.score_samples(table)).all()


def test_a_vae_can_be_the_model():
    def vae(features, seed):
        likelihood = distributions.Normal((features,), scale=0.5)
        model = VAE(
            networks.mlp((features,), (2,), hidden=(4,)),
            networks.mlp((1,), (features,), hidden=(4,)),
            distributions.DiagonalNormal(1),
            likelihood,
            seed=seed,
        )
        model.compile("adam", run_eagerly=True)
        return model

    x = (X - X.mean(axis=0)) / X.std(axis=0)
    estimator = AnomalyDetector(vae, fit_arguments={"epochs": 1}, random_state=1).fit(x)
    assert type(estimator.model_) is VAE
    np.testing.assert_allclose(estimator.score_samples(x), -estimator.model_.score(x), rtol=1e-4)


def test_pickle_and_clone(fitted, tmp_path):
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.decision_function(X), fitted.decision_function(X))
    assert again.model_.threshold == fitted.model_.threshold
    copy = clone(fitted)
    assert not hasattr(copy, "model_")
    assert copy.get_params() == fitted.get_params()
    np.testing.assert_array_equal(copy.fit(X).score_samples(X), fitted.score_samples(X))
    other = clone(fitted).set_params(random_state=1).fit(X)
    assert not np.allclose(other.score_samples(X), fitted.score_samples(X))


def test_it_works_in_a_pipeline_and_a_grid_search(fitted):
    pipeline = make_pipeline(PowerTransformer(), detector())
    labels = pipeline.fit_predict(X)
    np.testing.assert_array_equal(labels, pipeline.predict(X))
    y = np.ones(60)
    y[[7, 20, 40]] = -1
    models = [functools.partial(small, num_members=number) for number in (1, 3)]
    search = GridSearchCV(
        make_pipeline(PowerTransformer(), detector()),
        {"anomalydetector__model": models},
        scoring="roc_auc",
        cv=2,
    )
    search.fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    best = search.best_estimator_[-1].model_
    assert best.num_members == search.best_params_["anomalydetector__model"].keywords["num_members"]


def test_what_the_estimator_is_given_is_checked():
    def gan(features, seed):
        return GAN(networks.mlp((1,), (features,)), networks.mlp((features,), (1,)), seed=seed)

    for arguments, message in (
        ({"contamination": 0}, r"`contamination` must be a number in \(0, 0.5\]"),
        ({"contamination": 0.6}, "`contamination` must be a number"),
        ({"contamination": "auto"}, "`contamination` must be a number"),
        ({"unseen": "ignore"}, "`unseen` must be 'error' or 'missing'"),
        ({"kinds": {"a": "category"}}, "`kinds` needs a DataFrame"),
        ({"model": gan}, "must return a keras_gen model with an anomaly score.*GAN"),
    ):
        with pytest.raises(ValueError, match=message):
            detector(**arguments).fit(X)


def test_keras_gen_imports_scikit_learn_only_for_the_estimator():
    code = "import sys, keras_gen; assert 'sklearn' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert keras_gen.sklearn.AnomalyDetector is AnomalyDetector
