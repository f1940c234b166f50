"""Planted errors between the proved pieces: each is refuted by a statement of ``tests/experiments``.

The statement is the test of that name: it runs again with the mutant in place.
"""

import inspect
from functools import partial

import pytest

from tests.experiments import test_presets as presets
from tests.experiments import test_streams as streams
from tests.experiments import test_wiring as wiring
from tests.experiments import test_wiring_steps as steps
from tests.experiments import test_wiring_streams as assembled
from tests.mutants.planting import assert_refuted, mutants, plant
from tests.theory import test_claims as claims

GLYPHS, SINE = "glyphs-5way", "sine-reptile"
MUTANTS = [
    *mutants(
        "cli.checking",
        claims.test_verify_exits_with_1_if_one_claim_does_not_hold,
        ("return 0 if all(claim.holds", "return 0 if any(claim.holds"),
    ),
    *mutants(
        "experiments.episodes",
        wiring.test_training_draws_from_the_training_classes_and_evaluation_from_the_test_classes,
        ("parts.get(split)", 'parts["train"]'),
        ("parts.get(split)", 'parts["test"]'),
        (
            '{"train": self.train, "validation": self.validation, "test": self.test}',
            '{"train": self.test, "validation": self.validation, "test": self.train}',
        ),
        ("rng, self.train, tasks.ways", "rng, self.test, tasks.ways"),
    ),
    *mutants(
        "experiments.episodes",
        wiring.test_glyphs_four_fifths_of_the_classes_are_trained_on_and_the_others_are_the_test_classes,
        ("tasks.classes * 4 // 5", "tasks.classes * 3 // 5"),
        ('streams.rng("classes")', 'streams.rng("split")'),
    ),
    *mutants(
        "experiments.episodes",
        wiring.test_finns_omniglot_is_1100_characters_to_train_on_100_for_validation_and_423_for_test,
        ("if tasks.train_classes:", "if False:"),
    ),
    *mutants(
        "experiments.episodes",
        partial(
            wiring.test_inverted_drawings_are_one_minus_the_drawings_in_every_split,
            name="maml-omniglot-5way-1shot",
        ),
        ("return inverted(classes) if tasks.invert else classes", "return classes"),
        ("splits_in_three(rng, _shown(tasks, images)", "splits_in_three(rng, images"),
    ),
    *mutants(
        "experiments.episodes",
        partial(
            wiring.test_inverted_drawings_are_one_minus_the_drawings_in_every_split, name="omniglot-5way"
        ),
        ("omniglot.splits(rng, _shown(tasks, images))", "omniglot.splits(rng, images)"),
    ),
    *mutants(
        "experiments.streams",
        partial(
            streams.test_a_stream_is_the_leaf_of_the_seed_s_tree_from_which_published_runs_were_drawn,
            name="tasks",
            key=2,
        ),
        ('"tasks": 2', '"tasks": 7'),
        ("spawn_key=(_KEYS[name], *place)", "spawn_key=(*place, _KEYS[name])"),
    ),
    *mutants(
        "experiments.episodes",
        partial(assembled.test_each_draw_comes_from_its_own_place_of_its_own_stream, name=GLYPHS),
        ('return streams.rng("evaluation", i)', 'return streams.rng("tasks", i, 0)'),
        ('rng = self.streams.rng("batches", i, j)', 'rng = self.streams.rng("batches", i)'),
        ('rng = self.streams.rng("batches", i, j)', 'rng = self.streams.rng("tasks", i, j)'),
        ('rng = self.streams.rng("tasks", i, j)', 'rng = self.streams.rng("tasks", j, i)'),
        ('rng = self.streams.rng("tasks", i, j)', 'rng = self.streams.rng("tasks", i)'),
    ),
    *mutants(
        "experiments.episodes",
        partial(assembled.test_each_draw_comes_from_its_own_place_of_its_own_stream, name=SINE),
        (
            'sine.sample_task(self.streams.rng("tasks", i, j))',
            'sine.sample_task(self.streams.rng("tasks", i))',
        ),
        (
            'few_shot.minibatches(self.streams.rng("batches", i, j)',
            'few_shot.minibatches(self.streams.rng("batches", i)',
        ),
    ),
    *mutants(
        "experiments.episodes",
        assembled.test_an_image_episode_is_the_sampler_s_on_these_streams,
        ("tasks.ways, tasks.shots, queries=", "tasks.ways, tasks.shots + 1, queries="),
        (
            "return draw(rng, support, inner.batch, inner.steps)",
            "return draw(rng, support, inner.steps, inner.batch)",
        ),
        ("else few_shot.minibatches", "else few_shot.minibatches_with_replacement"),
        (
            "batches = few_shot.minibatches(rng, task.support, spec.minibatch, spec.steps)",
            "batches = few_shot.minibatches(rng, task.query, spec.minibatch, spec.steps)",
        ),
        ("Episode(task.support, task.query, batches)", "Episode(task.support, task.support, batches)"),
    ),
    *mutants(
        "experiments.experiment",
        partial(
            steps.test_the_outer_rate_at_step_i_of_n_is_first_times_1_minus_i_over_n_plus_last_times_i_over_n,
            last=0.0,
        ),
        (
            "linear_annealing(outer.rate, outer.final_rate, outer.steps)",
            "linear_annealing(outer.rate, outer.rate, outer.steps)",
        ),
        (
            "linear_annealing(outer.rate, outer.final_rate, outer.steps)",
            "linear_annealing(outer.rate, outer.final_rate, outer.steps - 1)",
        ),
        ("if outer.clip else make(rate(i))", "if outer.clip else make(rate(0))"),
    ),
    *mutants(
        "experiments.experiment",
        steps.test_a_bound_is_put_before_the_outer_optimiser_of_every_step_with_that_step_s_rate,
        ("Clipped(make(rate(i)), outer.clip)", "make(rate(i))"),
        ("Clipped(make(rate(i))", "Clipped(make(rate(0))"),
    ),
    *mutants(
        "experiments.experiment",
        steps.test_adam_outside_has_the_settings_beta1_and_the_rate_of_each_step,
        ("partial(Adam, beta1=outer.beta1)", "partial(Adam)"),
        ("partial(Adam, beta1=outer.beta1)", "partial(Adam, beta2=outer.beta1)"),
    ),
    *mutants(
        "experiments.experiment",
        steps.test_the_fixed_parameters_have_the_inner_rate_0_and_all_others_the_preset_s,
        ('{"*": inner.learning_rate, inner', '{"*": inner.learning_rate / 2, inner'),
        ("inner.fixed: 0}", "inner.fixed: inner.learning_rate}"),
    ),
    *mutants(
        "experiments.experiment",
        steps.test_maml_differentiates_through_steps_of_the_inner_rate,
        ("meta_gradients.maml(model, inner)", "meta_gradients.maml(model, preset.outer.rate)"),
        ("meta_gradients.maml(model, inner)", "meta_gradients.fomaml"),
    ),
    *mutants(
        "experiments.experiment",
        partial(
            steps.test_the_direction_is_the_preset_s_algorithm_s,
            "sine-fomaml",
            lambda t: t.phis[-2] - t.phis[-1],
        ),
        ("return meta_gradients.fomaml", "return meta_gradients.reptile"),
    ),
    *mutants(
        "experiments.experiment",
        partial(steps.test_a_run_steps_with_that_rate_and_the_mean_over_the_meta_batch, optimizer="momentum"),
        ("meta_batch=self.preset.outer.meta_batch", "meta_batch=1"),
        ("outer_steps=self.preset.outer.steps", "outer_steps=self.preset.outer.steps - 1"),
        ('"momentum": HeavyBall', '"momentum": Sgd'),
    ),
    *mutants(
        "experiments.experiment",
        steps.test_the_trained_and_the_untrained_point_are_each_evaluated_with_their_own_optimiser_state,
        ("point.inner_state,", "self.start().inner_state,"),
        ("point.phi,\n", "self.start().phi,\n"),
    ),
    *mutants(
        "experiments.runs",
        steps.test_the_trained_and_the_untrained_point_are_each_evaluated_with_their_own_optimiser_state,
        ('score("trained", step)', 'score("trained", untrained)'),
    ),
    *mutants(
        "experiments.runs",
        wiring.test_the_result_reports_the_trained_point_and_under_its_own_keys_the_untrained_one,
        ('**after.headline("")', '**before.headline("")'),
        ('**before.headline("_untrained")', '**after.headline("_untrained")'),
    ),
    *mutants(
        "experiments.scores",
        wiring.test_an_accuracy_is_the_mean_over_tasks_of_the_queries_classified_correctly,
        ("Accuracy(fractions)", "Accuracy(fractions[:1])"),
        ("{mode: Accuracy(fractions) for", "{mode: Accuracy([*values.values()][0]) for"),
        ("    after: int | Sequence[int] = -1", "    after: int | Sequence[int] = 0"),
    ),
    *mutants(
        "meta.evaluation",
        wiring.test_an_accuracy_is_the_mean_over_tasks_of_the_queries_classified_correctly,
        (".sum()) / len(y)", ".sum()) / len(episode.support[1])"),
    ),
    *mutants(
        "experiments.presets_omniglot",
        partial(
            presets.test_a_figure_3_curve_has_the_values_of_table_6_and_the_command_lines, name="figure3-g3"
        ),
        ('"fomaml" if curve == "g"', '"fomaml" if curve == "sum"'),
        ('algorithm="fomaml" if curve == "g" else "reptile"', 'algorithm="reptile"'),
        ("shots=5 * k", "shots=5"),
    ),
    *mutants(
        "experiments.presets_omniglot",
        partial(
            presets.test_a_figure_3_curve_has_the_values_of_table_6_and_the_command_lines,
            name="figure3-mean4",
        ),
        ("0.25 / k if", "0.25 if"),
    ),
    *mutants(
        "experiments.presets_omniglot",
        presets.test_the_published_numbers_are_those_of_tables_1_and_2,
        ("Published(95.39, 0.09)", "Published(95.93, 0.09)"),
        (
            'Cell(1, "transductive"): Published(97.97, 0.08)',
            'Cell(1, "non_transductive"): Published(97.97, 0.08)',
        ),
    ),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_every_mutant_is_refuted_by_a_statement_about_the_assembled_run(monkeypatch, request, mutant):
    statement = mutant.statement
    fixtures = {
        name: request.getfixturevalue(name)
        for name, parameter in inspect.signature(statement).parameters.items()
        if name not in getattr(statement, "keywords", {}) and parameter.default is parameter.empty
    }
    plant(monkeypatch, mutant)
    assert_refuted(partial(statement, **fixtures))
