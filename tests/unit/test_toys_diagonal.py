"""Diagonal linear networks (papers.md 4.1, 4.2): the published row, and every part against a naive one."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
import yaml
from declared import toy_of

from sgdline.config import ConfigError, resolve_config
from sgdline.tables import read_table
from sgdline.tables.kind import kind_of
from sgdline.toys import _diagonal, simulate_toy
from sgdline.toys._diagonal import Chain, FeatureRank, Problem, Setting
from sgdline.toys.base import Descent
from sgdline.toys.diagonal_networks import simulate as diagonal_networks
from sgdline.toys.diagonal_plane import simulate as diagonal_plane

ROOT = Path(__file__).parents[2]
DEFAULT = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))
TOYS = ("diagonal_networks", "diagonal_plane", "diagonal_extras")
SMALL: dict[str, Any] = {
    "samples": 12, "dimensions": 15, "nonzero": 3, "test_samples": 40, "updates": 300, "index_seeds": [1, 7],
    "perturbed_starts": 1,
}  # fmt: skip
OWN: dict[str, dict[str, Any]] = {
    "diagonal_networks": {"evaluations": 12},
    "diagonal_plane": {"resolution": 5, "kept_first": 20, "kept_later": 10},
    "diagonal_extras": {"evaluations": 6, "projection_steps": 30},
}
CONSTANT = {"method": "sgd", "lr": 0.25, "decay_at": None, "decay_factor": 1.0}

FloatArray = npt.NDArray[np.float64]


def settings(toy: str = "diagonal_networks", **changes: Any) -> dict[str, Any]:
    """Return the default settings of a toy, made small, with these changes."""
    return {**published(toy), **SMALL, **OWN[toy], **changes}


def published(toy: str = "diagonal_networks", **changes: Any) -> dict[str, Any]:
    block = resolve_config({**DEFAULT, "run": ["x"], "toys": {"x": {"toy": toy}}})["toys"]["x"]
    del block["toy"], block["figures"]
    return {**copy.deepcopy(block), **changes}


def table_of(toy: str, block: dict[str, Any]) -> pa.Table:
    return pa.table(toy_of(toy, block).simulate(), schema=kind_of(toy).schema)


def numbers(table: pa.Table, name: str) -> FloatArray:
    return np.asarray(table[name].to_numpy(), dtype=np.float64)


def naive(problem: Problem, setting: Setting, u: FloatArray, seed: int | None, *, updates: int, stops: set[int]) -> Any:
    """One chain, sample by sample, as papers.md 4.2 writes it."""
    generator = np.random.RandomState(seed) if seed is not None else None
    v, lr, found = np.zeros_like(u), setting.lr, {}
    for iteration in range(updates + 1):
        if iteration in stops:
            found[iteration] = (u.copy(), v.copy())
        if generator is not None:
            sample = generator.randint(len(problem.targets))
            x, target = problem.inputs[sample], problem.targets[sample]
            weighted = (x @ (u * v) - target) * x
            u, v = u - lr * (weighted * v), v - lr * (weighted * u)
        else:
            gradient = problem.inputs.T @ (problem.inputs @ (u * v) - problem.targets) / len(problem.targets)
            u, v = u - lr * gradient * v, v - lr * gradient * u
        if setting.decay_at is not None and iteration == int(np.floor(setting.decay_at * updates)):
            lr /= setting.decay_factor
    return found


# -- the published row -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_small_step_has_the_published_digits() -> None:
    """papers.md 4.2: lr 0.25 over the whole published length; this row is not chaotic."""
    table = table_of(
        "diagonal_networks", published(settings=[CONSTANT], index_seeds=[1], perturbed_starts=0, evaluations=250)
    )
    last = table.slice(table.num_rows - 1).to_pylist()[0]
    assert last["iteration"] == 99_599
    assert f"{last['train_loss']:.5e}" == "1.42162e-06"
    assert last["test_loss"] == pytest.approx(0.00352862, abs=5e-9)
    assert (last["support"], last["rank"]) == (200, 200)
    assert last["norm"] == pytest.approx(2.57054, abs=5e-6)
    assert last["imbalance"] == pytest.approx(1.649339e-4, rel=1e-4)


def test_gradient_descent_starts_at_the_published_loss() -> None:
    block = published(samples=40, dimensions=100, settings=[{**CONSTANT, "method": "gd", "lr": 2.0}], updates=2,
                      index_seeds=[1], perturbed_starts=0)  # fmt: skip
    assert table_of("diagonal_networks", block)["train_loss"][0].as_py() == pytest.approx(0.649, abs=5e-4)


def test_the_plane_has_the_published_ends() -> None:
    """papers.md 4.2: train / test after all 10,001 updates."""
    rows = table_of("diagonal_plane", published("diagonal_plane", index_seeds=[2], perturbed_starts=0)).to_pylist()
    ends = {(row["setting"], row["method"]): (row["train_loss"][-1], row["test_loss"][-1]) for row in rows[2:]}
    assert ends[0, "gd"] == pytest.approx((4.90e-6, 1.49e-2), rel=2e-3)
    assert ends[1, "gd"] == pytest.approx((1.64e-10, 0.126), rel=1e-2)
    assert ends[2, "sgd"] == pytest.approx((3.87e-8, 3.98e-8), rel=2e-3)


# -- data and iterations ---------------------------------------------------------------------------------------------


def test_data_are_drawn_in_the_published_order() -> None:
    problem = Problem.draw(toy_of("diagonal_networks", settings()))
    generator = np.random.RandomState(0)
    # The covariance is the identity: the draws are the numbers themselves.
    np.testing.assert_allclose(problem.inputs, generator.standard_normal((12, 15)), rtol=1e-12)
    np.testing.assert_allclose(problem.test_inputs, generator.standard_normal((40, 15)), rtol=1e-12)
    beta = np.abs(generator.standard_normal(15))
    beta[3:] = 0.0
    np.testing.assert_allclose(problem.solution, beta / np.linalg.norm(beta), rtol=1e-14)
    np.testing.assert_allclose(problem.targets, problem.inputs @ problem.solution)
    np.testing.assert_allclose(problem.test_targets, problem.test_inputs @ problem.solution)


def test_indices_are_those_drawn_one_by_one() -> None:
    generator = np.random.RandomState(5)
    one_by_one = [generator.randint(80) for _ in range(500)]
    np.testing.assert_array_equal(_diagonal.draw_indices(5, samples=80, updates=500), one_by_one)
    assert set(one_by_one) <= set(range(80))


def test_evaluated_iterations() -> None:
    found = _diagonal.evaluation_iterations(100_001, 250)
    spaced = {round(x) for x in np.linspace(0, 100_001, 250)} - {100_001}
    assert found == sorted(set(range(100)) | spaced)
    assert (len(found), found[-1]) == (348, 99_599)
    assert _diagonal.evaluation_iterations(5, 3) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("share", "updates", "last"), [(0.1, 100_001, 10_000), (0.5, 10_001, 5000), (0.29, 100, 29)])
def test_the_step_is_divided_after_the_iteration_of_the_decay(share: float, updates: int, last: int) -> None:
    setting = Setting("sgd", 0.3, share, 3.0)
    assert setting.decay_iteration(updates) == last
    assert setting.lr_of(last, updates=updates) == 0.3
    assert setting.lr_of(last + 1, updates=updates) == 0.3 / 3.0
    assert Setting("sgd", 0.3, None, 1.0).lr_of(10**6, updates=updates) == 0.3


# -- descents --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["sgd", "gd"])
@pytest.mark.parametrize("decay_at", [None, 0.4])
def test_chains_are_those_of_a_naive_loop(method: str, decay_at: float | None) -> None:
    problem = Problem.draw(toy_of("diagonal_networks", settings()))
    chosen = [Setting("sgd", 0.05, None, 1.0), Setting(method, 0.15, decay_at, 3.0), Setting("gd", 0.2, None, 1.0)]
    chains = [Chain(0, 0, 3, None), Chain(1, 0, 4 if method == "sgd" else None, None), Chain(2, 0, None, None)]
    stops = {0, 1, 79, 80, 81, 82, 200}
    wanted = naive(problem, chosen[1], np.full(15, 0.1), chains[1].index_seed, updates=200, stops=stops)
    states = _diagonal.descend(problem, chosen, chains, start=0.1, perturbation=0.0, updates=200, stops=sorted(stops))
    seen = []
    for state in states:
        seen.append(state.iteration)
        np.testing.assert_allclose(state.u[1], wanted[state.iteration][0], rtol=1e-9, atol=1e-13)
        np.testing.assert_allclose(state.v[1], wanted[state.iteration][1], rtol=1e-9, atol=1e-13)
    assert seen == sorted(stops)


def test_no_chain_depends_on_those_beside_it() -> None:
    block = settings(settings=[CONSTANT | {"lr": 0.1}, CONSTANT | {"lr": 0.2, "decay_at": 0.3, "decay_factor": 2.0}])
    whole = table_of("diagonal_networks", block)
    chains = numbers(whole, "chain")
    assert len(set(zip(numbers(whole, "setting"), chains, strict=True))) == 6  # two seeds and a changed start, twice
    for place in range(2):
        for number, seed in enumerate(block["index_seeds"]):
            alone = table_of(
                "diagonal_networks",
                block | {"settings": [block["settings"][place]], "index_seeds": [seed], "perturbed_starts": 0},
            )
            rows = np.flatnonzero((numbers(whole, "setting") == place) & (chains == number))
            own = whole.take(rows).drop_columns(["setting", "chain"])
            assert own.equals(alone.drop_columns(["setting", "chain"]))  # to the last bit


def test_settings_share_a_seed_until_one_decays() -> None:
    block = settings(settings=[CONSTANT | {"lr": 0.2}, CONSTANT | {"lr": 0.2, "decay_at": 0.5, "decay_factor": 9.0}])
    table = table_of("diagonal_networks", block)
    first, second = (
        table.take(np.flatnonzero((numbers(table, "setting") == place) & (numbers(table, "chain") == 0)))
        for place in (0, 1)
    )
    same = numbers(first, "train_loss") == numbers(second, "train_loss")
    iterations = numbers(first, "iteration")
    np.testing.assert_array_equal(
        same, iterations <= 151
    )  # the update of iteration 150 is the last with the large step
    np.testing.assert_array_equal(numbers(second, "step"), np.where(iterations <= 150, 0.2, 0.2 / 9.0))


def test_perturbed_starts_are_near_and_their_own() -> None:
    block = settings(perturbed_starts=2, index_seeds=[4], settings=[CONSTANT], perturbation=1e-6)
    chains = _diagonal.chains_of([Setting.of(Descent(method="sgd", lr=0.25))], index_seeds=[4], perturbed=2)
    [state] = _diagonal.descend(
        Problem.draw(toy_of("diagonal_networks", block)),
        [Setting.of(Descent(method="sgd", lr=0.25))],
        chains,
        start=0.1,
        perturbation=1e-6,
        updates=1,
        stops=[0],
    )
    np.testing.assert_array_equal(state.u[0], 0.1)
    for changed in state.u[1:]:
        assert 1e-7 < np.abs(changed / 0.1 - 1.0).max() < 1e-5
    assert not np.array_equal(state.u[1], state.u[2])
    np.testing.assert_array_equal(state.v, 0.0)
    table = table_of("diagonal_networks", block)
    assert set(zip(table["chain"].to_pylist(), table["perturbed"].to_pylist(), strict=True)) == {
        (0, False), (1, True), (2, True)
    }  # fmt: skip
    assert set(table["index_seed"].to_pylist()) == {4}


def test_a_chain_that_diverges_is_told_and_leaves_the_others() -> None:
    block = settings(settings=[CONSTANT | {"lr": 0.1}, CONSTANT | {"lr": 4.0}], perturbed_starts=0)
    table = table_of("diagonal_networks", block)
    lost = numbers(table, "setting") == 1
    status = np.array(table["status"].to_pylist())
    assert set(status[~lost]) == {"ok"}
    late = lost & (numbers(table, "iteration") == numbers(table, "iteration").max())
    assert set(status[late]) == {"diverged"}
    for name in ("train_loss", "test_loss", "rank", "coarse_rank", "support", "norm", "imbalance", "product_l1"):
        values = numbers(table, name)
        np.testing.assert_array_equal(np.isnan(values), status == "diverged")
        assert not np.isinf(values).any()
    alone = table_of("diagonal_networks", block | {"settings": block["settings"][:1]})
    assert table.take(np.flatnonzero(~lost)).equals(alone)


# -- measures --------------------------------------------------------------------------------------------------------


def test_measures_of_constructed_networks() -> None:
    problem = Problem.draw(toy_of("diagonal_networks", settings()))
    features = FeatureRank(problem.test_inputs[:30])
    u = np.array([np.full(15, 0.5), np.full(15, 0.5)])
    v = np.array([np.full(15, -0.25), [0.5, 0.5, 1e-3, 1e-7, 1e-20, 1e-49, 1e-51, *[0.0] * 8]])
    u[1, 7:] = 0.0
    found = diagonal_networks._measure(problem, features, u, v)
    assert found["support"] == [15, 6]
    assert found["coarse_support"] == [15, 3]
    assert found["rank"] == [15, 7]  # u is 0 from the eighth on
    assert found["product_l1"][0] == pytest.approx(15 * 0.125)
    assert found["norm"][0] == pytest.approx(np.sqrt(15 * (0.25 + 0.0625)))
    assert found["imbalance"][0] == pytest.approx(np.sqrt(15) * 0.25)
    loss = ((problem.inputs @ (u[0] * v[0]) - problem.targets) ** 2).sum() / 24
    assert found["train_loss"][0] == pytest.approx(loss)


def test_rank_is_that_of_the_whole_matrix() -> None:
    generator = np.random.default_rng(0)
    inputs = generator.standard_normal((40, 20))
    features = FeatureRank(inputs)
    seen = set()
    for decades in (0.0, 1.0, 9.0, 25.0, 60.0):
        widths = 10.0 ** (-decades * generator.random(20))
        u, v = widths * generator.standard_normal(20), widths * generator.standard_normal(20)
        matrix = np.hstack([inputs * v, inputs * u])
        values = np.linalg.svd(matrix, compute_uv=False)
        for tolerance in (1e-3, 1e-6, 1e-10, 1e-13):
            wanted = int((values / values[0] > tolerance).sum())
            assert features.count(u, v, [tolerance]) == [wanted]
            seen.add(wanted)
    assert len(seen) > 6
    # Where the whole matrix has only noise left, the columns themselves tell: they are nearly orthogonal.
    widths = np.where(np.arange(20) < 11, 1.0, 1e-17)
    assert features.count(widths, 0.0 * widths, [1e-15, 1e-6]) == [11, 11]
    widths = np.where(np.arange(20) < 11, 1.0, 1e-13)
    assert features.count(widths, widths, [1e-15, 1e-6]) == [20, 11]
    assert features.count(np.zeros(20), np.zeros(20), [1e-15]) == [0]


def test_rank_of_fewer_inputs_than_dimensions() -> None:
    inputs = np.random.default_rng(1).standard_normal((6, 20))
    assert FeatureRank(inputs).count(np.ones(20), np.ones(20), [1e-15]) == [6]


def test_the_hessian_is_that_of_finite_differences() -> None:
    problem = Problem.draw(toy_of("diagonal_networks", settings()))
    generator = np.random.default_rng(3)
    point = generator.standard_normal(30)

    def gradient(theta: FloatArray) -> FloatArray:
        u, v = theta[:15], theta[15:]
        weighted = problem.inputs.T @ (problem.inputs @ (u * v) - problem.targets) / 12
        return np.hstack([weighted * v, weighted * u])

    step = 1e-5
    hessian = np.array([(gradient(point + step * e) - gradient(point - step * e)) / (2 * step) for e in np.eye(30)])
    values = np.linalg.eigvalsh((hessian + hessian.T) / 2)
    assert _diagonal.hessian_range(problem, point[:15], point[15:]) == pytest.approx((values[0], values[-1]), rel=1e-6)


# -- extras ----------------------------------------------------------------------------------------------------------


def sample_gradients(problem: Problem, u: FloatArray, v: FloatArray) -> list[tuple[FloatArray, FloatArray]]:
    errors = [x @ (u * v) - target for x, target in zip(problem.inputs, problem.targets, strict=True)]
    return [(e * x * v, e * x * u) for e, x in zip(errors, problem.inputs, strict=True)]


def mean(pairs: list[tuple[FloatArray, FloatArray]]) -> FloatArray:
    return np.mean(np.array(pairs), axis=0)


def extra_gradient(problem: Problem, setting: Setting, u: FloatArray, v: FloatArray) -> FloatArray:
    """Both gradients of one update, sample by sample. Shape (2, d)."""
    own = sample_gradients(problem, u, v)
    if setting.method == "one_sam":
        moved = [sample_gradients(problem, u + setting.rho * g, v + setting.rho * h) for g, h in own]
        return mean([gradients[place] for place, gradients in enumerate(moved)])
    if setting.method == "n_sam":
        g, h = mean(own)
        return mean(sample_gradients(problem, u + setting.rho * g, v + setting.rho * h))
    gradient = mean(own)
    if setting.method == "normalised_gd":
        norms = np.linalg.norm(gradient, axis=1, keepdims=True)
        gradient = gradient / norms if (norms > 0).all() else gradient
    return gradient


@pytest.mark.parametrize(
    "setting",
    [
        Setting("normalised_gd", 0.02, 0.4, 3.0),
        Setting("n_sam", 0.2, None, 1.0, rho=0.4),
        Setting("one_sam", 0.2, 0.4, 3.0, rho=0.3),
        Setting("gd", 0.2, 0.4, 3.0, weight_decay=0.003),
        Setting("gd", 0.2, None, 1.0, balancedness=0.01),
        Setting("one_sam", 0.2, None, 1.0, rho=0.1, weight_decay=0.001, balancedness=0.002),
    ],
    ids=lambda setting: f"{setting.method}-{setting.weight_decay}-{setting.balancedness}",
)
def test_further_methods_are_those_of_a_naive_loop(setting: Setting) -> None:
    problem = Problem.draw(toy_of("diagonal_networks", settings()))
    chosen = [Setting("sgd", 0.05, None, 1.0), setting, Setting("gd", 0.2, None, 1.0), replace(setting, lr=0.1)]
    chains = [Chain(place, 0, 3 if place == 0 else None, None) for place in range(4)]
    u, v, lr = np.full(15, 0.1), np.zeros(15), setting.lr
    stops = [0, 1, 2, 40, 41, 42, 100]
    states = iter(_diagonal.descend(problem, chosen, chains, start=0.1, perturbation=0.0, updates=100, stops=stops))
    for iteration in range(101):
        if iteration in stops:
            state = next(states)
            np.testing.assert_allclose(state.u[1], u, rtol=1e-9, atol=1e-13)
            np.testing.assert_allclose(state.v[1], v, rtol=1e-9, atol=1e-13)
        g, h = extra_gradient(problem, setting, u, v)
        larger = np.sign(np.abs(u) - np.abs(v))
        u, v = (
            u - lr * g - setting.weight_decay * u - setting.balancedness * larger * u,
            v - lr * h - setting.weight_decay * v + setting.balancedness * larger * v,
        )
        if setting.decay_at is not None and iteration == 40:
            lr /= setting.decay_factor
    assert not np.allclose(state.u[1], state.u[3])


def test_options_enter_the_table_and_may_be_left_out() -> None:
    given = {"method": "one_sam", "lr": 0.2, "decay_at": None, "decay_factor": 1.0, "rho": 0.3, "weight_decay": 1e-4}
    block = settings("diagonal_extras", settings=[{**CONSTANT, "method": "gd"}, given], perturbed_starts=0)
    rows = table_of("diagonal_extras", block).to_pylist()
    names = ("method", "rho", "weight_decay", "balancedness")
    assert {tuple(row[name] for name in names) for row in rows} == {
        ("gd", 0.0, 0.0, 0.0), ("one_sam", 0.3, 1e-4, 0.0)
    }  # fmt: skip
    assert len({row["train_loss"] for row in rows if row["iteration"] == 60}) == 2


def test_projections_averages_and_gradients_one_by_one() -> None:
    block = settings("diagonal_extras", settings=[CONSTANT | {"lr": 0.1}], perturbed_starts=0, average_decay=0.9)
    table = table_of("diagonal_extras", block)
    problem = Problem.draw(toy_of("diagonal_extras", block))
    stops = sorted(set(table["iteration"].to_pylist()))
    assert stops == [0, 60, 120, 180, 240]
    path = naive(problem, Setting("sgd", 0.1, None, 1.0), np.full(15, 0.1), 7, updates=300, stops=set(range(301)))
    mean = path[0]
    for iteration in range(241):
        if iteration:
            mean = tuple(0.9 * old + 0.1 * new for old, new in zip(mean, path[iteration], strict=True))
        if iteration not in stops:
            continue
        chosen = (numbers(table, "chain") == 1) & (numbers(table, "iteration") == iteration)
        [row] = table.take(np.flatnonzero(chosen)).to_pylist()
        u, v = path[iteration]
        errors = problem.inputs @ (u * v) - problem.targets
        gradients = [e * np.hstack([x * v, x * u]) for e, x in zip(errors, problem.inputs, strict=True)]
        assert row["sample_gradient_square"] == pytest.approx(np.mean([g @ g for g in gradients]))
        assert row["averaged_train_loss"] == pytest.approx(
            float(_diagonal.half_mse(mean[0] * mean[1], problem.inputs, problem.targets)), rel=1e-8
        )
        low, high = _diagonal.hessian_range(problem, u, v)
        assert (row["smallest_eigenvalue"], row["largest_eigenvalue"]) == pytest.approx((low, high), rel=1e-7)
        for _ in range(30):
            weighted = problem.inputs.T @ (problem.inputs @ (u * v) - problem.targets) / 12
            u, v = u - 0.5 * weighted * v, v - 0.5 * weighted * u
        wanted = float(_diagonal.half_mse(u * v, problem.test_inputs, problem.test_targets))
        assert row["projected_test_loss"] == pytest.approx(wanted, rel=1e-7)


# -- plane -----------------------------------------------------------------------------------------------------------


def test_the_plane_goes_through_its_three_points() -> None:
    generator = np.random.default_rng(4)
    start, solution, end = generator.standard_normal((3, 8))
    plane = diagonal_plane.plane_through(start, solution, end)
    assert plane.first @ plane.second == pytest.approx(0.0, abs=1e-12)
    assert (np.linalg.norm(plane.first), np.linalg.norm(plane.second)) == pytest.approx((1.0, 1.0))
    found = plane.coordinates(np.array([start, solution, end]))
    np.testing.assert_allclose(found[:, 0], 0.0, atol=1e-12)
    np.testing.assert_allclose(found[:, 1], [np.linalg.norm(solution - start), 0.0, 0.0], atol=1e-12)
    assert found[2, 2] == pytest.approx(0.0, abs=1e-12)
    assert found[1, 2] > 0.0
    aside = start + 2.0 * plane.first - 3.0 * plane.second
    beside = generator.standard_normal(8)
    beside -= (beside @ plane.first) * plane.first + (beside @ plane.second) * plane.second
    np.testing.assert_allclose(
        plane.coordinates((aside + beside)[None])[:, 0], [2.0, -3.0, np.linalg.norm(beside)], rtol=1e-12
    )
    np.testing.assert_allclose(plane.points(np.array([2.0]), np.array([-3.0])), aside[None])


def test_mirror_images_have_the_same_losses() -> None:
    points = np.random.default_rng(5).standard_normal((9, 30))
    found = diagonal_plane.mirrored(points)
    np.testing.assert_array_equal(found[:, :15] * found[:, 15:], points[:, :15] * points[:, 15:])
    assert (found[:, :15] + found[:, 15:] >= 0.0).all()
    np.testing.assert_array_equal(np.abs(found), np.abs(points))
    assert not np.array_equal(found, points)


def test_surface_and_descents_of_the_plane() -> None:
    block = settings("diagonal_plane", settings=[CONSTANT | {"lr": 0.1}, CONSTANT | {"lr": 4.0}])
    rows = table_of("diagonal_plane", block).to_pylist()
    assert [row["part"] for row in rows] == ["surface", "solution", *["descent"] * 7]
    surface, solution, flow, *others = rows
    assert len(surface["train_loss"]) == 25
    np.testing.assert_allclose(surface["first_coordinate"][:5], np.linspace(-0.5, 2.3, 5), atol=1e-12)
    np.testing.assert_allclose(surface["distance"], 0.0, atol=1e-12)
    assert solution["test_loss"] == pytest.approx([0.0], abs=1e-28)
    assert (flow["setting"], flow["method"], flow["updates"][-1]) == (0, "gd", 300)
    assert flow["updates"] == diagonal_plane.kept_updates(300, kept_first=20, kept_later=10)
    assert flow["distance"][-1] == pytest.approx(0.0, abs=1e-12)
    assert [row["status"] for row in others] == ["ok"] * 3 + ["diverged"] * 3
    for row in others[3:]:
        assert len(row["updates"]) == len(row["train_loss"]) < len(flow["updates"])
        assert np.isfinite(row["train_loss"]).all()
    problem = Problem.draw(toy_of("diagonal_plane", block))
    path = naive(problem, Setting("sgd", 0.1, None, 1.0), np.full(15, 0.1), 1, updates=300, stops={17})
    wanted = float(_diagonal.half_mse(path[17][0] * path[17][1], problem.inputs, problem.targets))
    assert others[0]["train_loss"][17] == pytest.approx(wanted, rel=1e-9)


def test_a_flow_that_diverges_is_refused() -> None:
    with pytest.raises(ValueError, match="flow_lr must leave gradient descent finite, got 50"):
        toy_of("diagonal_plane", settings("diagonal_plane", flow_lr=50.0)).simulate()


# -- tables and configuration ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("toy", TOYS)
def test_a_toy_fills_its_table_and_repeats_itself(toy: str, tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        block = settings(toy, data_seed=seed)
        simulate_toy(toy, tmp_path / f"{name}.arrow", settings=block, provenance={})
    one, two, other = (read_table(tmp_path / f"{name}.arrow", kind_of(toy)) for name in ("one", "two", "other"))
    assert one.num_rows > 5
    assert one.equals(two)
    assert not one.equals(other)


def faults_of(toy: str, text: str) -> list[str]:
    block = {"toy": toy, **yaml.safe_load(text)}
    with pytest.raises(ConfigError) as caught:
        resolve_config({**DEFAULT, "run": ["x"], "toys": {"x": block}})
    return list(caught.value.faults)


def test_defaults_are_the_published_settings() -> None:
    block = published()
    assert block["settings"][0] == CONSTANT
    assert [(entry["lr"], entry["decay_at"], entry["decay_factor"]) for entry in block["settings"][1:]] == [
        (0.282, 0.1, 4.8), (0.282, 0.3, 3.4), (0.282, 0.5, 1.5)
    ]  # fmt: skip
    assert (block["samples"], block["dimensions"], block["nonzero"], block["updates"]) == (80, 200, 20, 100_001)
    assert len(block["index_seeds"]) >= 5
    assert block["index_seeds"][0] == 1


def test_faults_of_settings_are_named() -> None:
    [fault] = faults_of("diagonal_networks", "{nonzero: 30, dimensions: 20}")
    assert fault == "toys.x.nonzero must be at most dimensions = 20, got 30. Lower it."
    [fault] = faults_of("diagonal_networks", "{settings: [{method: sgd, lr: 0.1, decay_factor: 3}]}")
    assert fault.startswith("toys.x.settings[0].decay_factor must be 1 without decay_at, got 3.")
    [fault] = faults_of("diagonal_networks", "{settings: [{method: adam, lr: 0.1}]}")
    assert fault.startswith("toys.x.settings[0].method must be one of sgd or gd")
    [fault] = faults_of("diagonal_networks", "{settings: [{method: gd, lr: 0.1, decay_at: 1.0}]}")
    assert fault.startswith("toys.x.settings[0].decay_at must be")
    [fault] = faults_of("diagonal_networks", "{settings: [{method: n_sam, lr: 0.1}]}")
    assert fault.startswith("toys.x.settings[0].method must be one of sgd or gd")
    [fault] = faults_of("diagonal_extras", "{settings: [{method: n_sam, lr: 0.1}]}")
    assert fault.startswith("toys.x.settings[0].rho must be given with method n_sam.")
    [fault] = faults_of("diagonal_extras", "{settings: [{method: gd, lr: 0.1, rho: 0.2}]}")
    assert fault.startswith("toys.x.settings[0].rho must be left out with method gd, got 0.2.")
    [fault] = faults_of("diagonal_plane", "{first_range: [1, -1]}")
    assert fault.startswith("toys.x.first_range must be a lower and a higher number, got 1 and -1.")
