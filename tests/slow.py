"""The tests that take longer than a quick suite allows, each with its quick siblings.

`conftest.py` marks them as `slow`. A sibling fails for the same broken line of the package, in less
time. `test_project.py` checks that both exist.
"""

import re

import pytest

COLLECTED = pytest.StashKey()
"""Key under which `conftest.py` keeps the names of all tests, before any is deselected."""

MIXED = "test_conformance.py::test_mixed_precision_stays_close_to_float32"
COMBINED = "test_combinations.py::test_a_selection_agrees_in_every_mode"
NOT_TAKEN = "fitting/test_non_finite.py::test_the_step_is_not_taken_and_the_error_says_which"

KILLED = "fitting/test_faults.py::test_stopped_elsewhere[kill -9 before a"
RESUMED = "fitting/test_checkpoints.py::test_stopped_and_resumed_is_the_same_training"
PENALTY = (
    "models/test_gan.py::test_a_penalty_is_that_of_finite_differences_in_every_mode_and_precision"
)
SAME = "test_conformance.py::test_every_execution_mode_is_the_same_training"
FUSED = "fitting/test_fused_adam.py::test_training_ends_with_the_weights_of_keras_own"

KEEPS_LOGS = (
    "models/test_hierarchical_vae.py::test_the_doubly_reparameterized_gradient_keeps_the_logs"
)

RESIDUAL = "networks/test_residual.py::test_every_mode_is_the_same_training"

SLOW = {
    f"{RESIDUAL}[*-XLA]": (f"{RESIDUAL}[*-two steps per execution]", f"{SAME}[autoencoder-XLA]"),
    "fitting/test_labels.py::test_labels_of_a_data_set_are_checked_in_the_step[*-XLA]": (
        "fitting/test_labels.py::test_labels_of_a_data_set_are_checked_in_the_step[*-graph]",
    ),
    "runs/test_recipes.py::test_an_example_of_the_help_builds_its_model[*vae*": (
        "runs/test_recipes.py::test_an_example_of_the_help_builds_its_model[*gan*",
    ),
    "test_export_columns.py::test_a_published_model_of_a_table_is_verified": (
        "serving/test_table_serving.py::test_the_loader_gives_what_keras_gives",
    ),
    "serving/test_table_serving.py::test_every_signature_in_the_loader_agrees_row_by_row_and*": (
        "serving/test_table_serving.py::test_the_loader_gives_what_keras_gives",
    ),
    # publishes another model
    "serving/test_table_serving.py::test_a_row_of_nan_is_an_anomaly_without_missing_entries": (
        "models/test_anomalies.py::test_a_score_of_nan_is_above_the_threshold",
    ),
    "serving/test_detectors.py::test_a_row_with_nan_is_scored_by_its_observed_entries[*": (
        "serving/test_table_serving.py::test_the_loader_gives_what_keras_gives",
    ),
    "models/test_conditional_gan.py::test_it_trains_saves_and_draws_the_same_again[compiled1]": (
        "models/test_conditional_gan.py::test_it_trains_saves_and_draws_the_same_again[compiled0]",
    ),
    "models/test_conditional_gan.py::test_it_trains_saves_and_draws_the_same_again[compiled2]": (
        "models/test_conditional_gan.py::test_it_trains_saves_and_draws_the_same_again[compiled0]",
    ),
    "test_sklearn.py::test_all_checks_of_scikit_learn_pass": (
        "test_sklearn.py::test_the_checks_of_outlier_detectors_pass[*",
    ),
    "test_fuzz.py::test_hundreds_of_damaged_files_are_errors_of_ours[*": (
        "test_fuzz.py::test_damaged_files_are_errors_of_ours[*",
        "test_fuzz.py::test_hundreds_of_damaged_checkpoints_are_found",
    ),
    # two processes each, several times
    "runs/test_strategies.py::test_two_workers_end_where_one_process_with_the_doubled_batch_does": (
        "test_compat.py::test_the_repairs_for_several_workers_do_what_they_say",
        "test_conformance.py::test_two_replicas_see_the_whole_batch[autoencoder]",
    ),
    "runs/test_strategies.py::test_workers_have_the_same_weights_and_logs_and_different_noise[*": (
        "test_compat.py::test_the_repairs_for_several_workers_do_what_they_say",
        "test_conformance.py::test_noise_differs_by_step_and_replica[*",
    ),
    "runs/test_strategies.py::test_a_mirrored_run_has_the_weights_of_a_run_on_one_device": (
        "test_conformance.py::test_two_replicas_see_the_whole_batch[autoencoder]",
    ),
    "runs/test_strategies.py::test_a_killed_worker_ends_the_other_and_both_resume": (
        "fitting/test_multi_worker.py::test_the_end_of_another_worker_is_an_error_of_its_own*",
        "fitting/test_multi_worker.py::test_workers_continue_from_a_checkpoint_that_all_have*",
    ),
    # a process that imports TensorFlow
    "test_import.py::test_any_import_registers_all_classes[*": (
        "test_import.py::test_classes_are_registered_after_the_outermost_import[*",
    ),
    # a hundred modules, half a second each
    "test_import.py::test_every_module_can_be_imported_first[*": (
        "test_import.py::test_a_module_without_classes_can_be_imported_first[*",
        "test_import.py::test_classes_are_registered_after_the_outermost_import[*",
    ),
    # XLA compiles for seconds; the autoencoder shows the same branches of the step
    f"{MIXED}[vae-*-XLA]": (
        f"{MIXED}[autoencoder-mixed_float16-XLA]",
        f"{MIXED}[vae-mixed_float16-graph]",
    ),
    f"{MIXED}[gan-*-XLA]": (
        f"{MIXED}[autoencoder-mixed_float16-XLA]",
        f"{MIXED}[gan-mixed_float16-graph]",
    ),
    f"{MIXED}[vq_vae-*-XLA]": (
        f"{MIXED}[autoencoder-mixed_float16-XLA]",
        f"{MIXED}[vq_vae-mixed_float16-graph]",
    ),
    f"{MIXED}[*-mixed_bfloat16-graph]": (f"{MIXED}[vae-mixed_float16-graph]",),
    "test_conformance.py::test_two_replicas_see_the_whole_batch[vq_vae]": (
        "test_conformance.py::test_two_replicas_see_the_whole_batch[autoencoder]",
        "networks/test_quantizer.py::test_two_replicas_update_with_the_whole_batch",
    ),
    "models/test_vector_quantized.py::test_two_replicas_have_the_codebook_of_the_whole_batch": (
        "networks/test_quantizer.py::test_two_replicas_update_with_the_whole_batch",
    ),
    "test_conformance.py::test_two_replicas_see_the_whole_batch[vae]": (
        "test_conformance.py::test_two_replicas_see_the_whole_batch[autoencoder]",
        f"{COMBINED}[diagonal-vamp-optimal-two replicas]",
    ),
    f"{COMBINED}[*-XLA]": (
        f"{SAME}[autoencoder-XLA]",
        "distributions/test_divergence.py::*",
    ),
    f"{KEEPS_LOGS}[XLA]": (f"{KEEPS_LOGS}[graph]",),
    "test_combinations.py::test_the_doubly_reparameterized_bound_agrees_in_every_mode[XLA]": (
        "test_combinations.py::test_the_doubly_reparameterized_bound_agrees_in_every_mode[graph]",
    ),
    f"{COMBINED}[full-*-two replicas]": (f"{COMBINED}[diagonal-vamp-optimal-two replicas]",),
    "models/test_conditional_gan.py::test_two_replicas_and_mixed_precision": (
        "models/test_conditional_gan.py::test_it_trains_saves_and_draws_the_same_again[*",
        "models/test_gan.py::test_penalties_and_the_average_on_two_replicas_are_those_of_one",
    ),
    "models/test_conditional_vae.py::test_two_replicas_and_mixed_precision": (
        "test_conformance.py::test_two_replicas_see_the_whole_batch[autoencoder]",
        "models/test_conditional_vae.py::test_it_trains_saves_evaluates_and_generates[*",
    ),
    f"{PENALTY}[compiled2-mixed_float16]": (f"{PENALTY}[compiled2-float32]",),
    f"{SAME}[gan-XLA]": (f"{SAME}[autoencoder-XLA]", f"{SAME}[gan-graph]"),
    f"{SAME}[vq_vae-XLA]": (
        f"{SAME}[autoencoder-XLA]",
        f"{SAME}[vq_vae-graph]",
        "networks/test_quantizer.py::test_moving_averages_are_those_of_the_formula[XLA]",
    ),
    f"{SAME}[vae-XLA]": (
        f"{SAME}[autoencoder-XLA]",
        f"{SAME}[vae-graph]",
        "distributions/test_posteriors.py::test_gradients_under_xla_*",
    ),
    "fitting/test_checkpoints.py::test_every_mode_of_execution_resumes[*jit_compile*": (
        "fitting/test_checkpoints.py::test_every_mode_of_execution_resumes[*steps_per_execution*",
        f"{SAME}[autoencoder-XLA]",
    ),
    "models/test_gan.py::test_the_average_is_never_trained_and_may_be_made_outside_the_scope": (
        "models/test_gan.py::test_penalties_and_the_average_on_two_replicas_are_those_of_one",
    ),
    f"{NOT_TAKEN}[vae-*-XLA]": (f"{NOT_TAKEN}[autoencoder-*-XLA]",),
    f"{NOT_TAKEN}[gan-*-XLA]": (f"{NOT_TAKEN}[autoencoder-*-XLA]",),
    # a process of its own for each failure; the callbacks do the same in this process
    "fitting/test_faults.py::test_stopped_in_a_step[*": (
        f"{KILLED} checkpoint's checksums-*",
        f"{RESUMED}[*",
    ),
    f"{KILLED} checkpoint gets its name-*": (f"{KILLED} checkpoint's checksums-*",),
    "fitting/test_faults.py::test_stopped_elsewhere[kill -9 while*": (
        f"{KILLED} checkpoint's checksums-*",
    ),
    "fitting/test_faults.py::test_stopped_elsewhere[killed while*": (
        f"{KILLED} checkpoint's checksums-*",
    ),
    "fitting/test_faults.py::test_stopped_elsewhere[Ctrl-C*": (
        "fitting/test_checkpoints.py::test_ctrl_c_is_a_keyboard_interrupt_after_the_checkpoint*",
    ),
    "fitting/test_faults.py::test_killed_at_random_moments": (
        f"{KILLED} checkpoint's checksums-*",
    ),
    f"{RESUMED}[vae-*": (f"{RESUMED}[autoencoder-as_arrays-*", f"{RESUMED}[gan-*"),
    f"{RESUMED}[hierarchical_vae-*": (
        f"{RESUMED}[autoencoder-as_arrays-*",
        "models/test_hierarchical_vae.py::test_it_trains_saves_and_continues[*",
    ),
    f"{SAME}[hierarchical_vae-XLA]": (
        f"{SAME}[autoencoder-XLA]",
        f"{SAME}[vae-graph]",
    ),
    f"{MIXED}[hierarchical_vae-*-XLA]": (
        f"{MIXED}[autoencoder-mixed_float16-XLA]",
        f"{MIXED}[vae-mixed_float16-graph]",
    ),
    "test_conformance.py::test_two_replicas_see_the_whole_batch[hierarchical_vae]": (
        "test_conformance.py::test_two_replicas_see_the_whole_batch[autoencoder]",
    ),
    f"{NOT_TAKEN}[hierarchical_vae-*-XLA]": (f"{NOT_TAKEN}[autoencoder-*-XLA]",),
    f"{FUSED}[autoencoder-True]": (f"{FUSED}[autoencoder-False]",),
    "test_cli.py::test_train_sample_export": (
        "test_extending.py::test_a_kind_of_model_trains_from_the_command_line_*",
    ),
    # a training, two exports and a second density
    "runs/test_density_runs.py::test_a_run_fits_the_density_and_another_one_afterwards": (
        "runs/test_density_runs.py::test_settings_that_do_not_fit_are_refused",
        "models/test_latent_densities.py::test_generate_uses_the_density_also_saved_*[vae-flow]",
    ),
    "runs/test_run.py::test_an_audit_writes_its_result_into_the_folder": (
        "runs/test_run.py::test_the_files_of_an_audit",
        "evaluation/test_independence.py::test_a_short_audit_comes_near_a_cost_that_is_known",
    ),
    "evaluation/test_independence.py::test_where_independence_costs_nothing_it_says_so": (
        "evaluation/test_independence.py::test_a_short_audit_comes_near_a_cost_that_is_known",
    ),
    "test_docs.py::test_the_site_is_built_without_a_warning": (
        "test_docs.py::test_links_have_a_target[*",
    ),
    # models of 28×28 images, whose graphs take memory; their functions have doctests and tests
    "test_docs.py::test_snippets_run[docs/*": ("test_docs.py::test_snippets_run[README.md]",),
    "test_docs.py::test_tutorials_run[5_*": (
        "evaluation/test_independence.py::test_a_short_audit_comes_near_a_cost_that_is_known",
    ),
    # the kinds of models with the most operations; the other kinds test the same lines of the base
    **{
        f"test_conformance.py::{test}[{kind}*": (f"test_conformance.py::{test}[gan*",)
        for kind in ("hierarchical_vae", "vq_vae", "vae")
        for test in (
            "test_a_learning_rate_schedule_of_steps_works",
            "test_an_overflow_under_mixed_float16_skips_the_step_and_halves_the_scale",
            "test_data_sets_of_unknown_rank_train",
            "test_evaluation_is_the_same_twice_and_changes_nothing_and_the_loss_is_the_sum_of_*",
            "test_every_form_of_fit_is_the_same_training",
            "test_noise_differs_by_model_and_by_batch_of_an_evaluation",
            "test_noise_differs_by_step_and_replica",
            "test_noise_is_new_in_every_accumulated_step",
            "test_the_built_in_callbacks_work",
            "test_validation_split_and_train_on_batch",
            "test_values_out_of_range_and_nan_are_refused_in_every_mode",
            "test_weights_of_one_column_and_lists_are_taken",
            "test_weights_without_a_target_count_in_fit_and_its_validation",
        )
    },
    "models/test_vector_quantized.py::test_fit_prior_fits_the_codes_of_the_data[data set*": (
        "models/test_vector_quantized.py::test_the_exported_functions_use_codes",
    ),
    "models/test_vector_quantized.py::test_a_second_fit_of_the_prior_and_training_go_on": (
        "models/test_vector_quantized.py::test_the_exported_functions_use_codes",
        "distributions/test_transformer.py::test_fit_learns_a_distribution_of_codes_and_a_second*",
    ),
    "models/test_vector_quantized.py::test_a_prior_that_fit_prior_made_is_in_the_file": (
        "test_conformance.py::test_keras_file_brings_back_weights_slots_*[vq_vae]",
    ),
    "models/test_vector_quantized.py::test_a_resumed_training_is_bit_for_bit*[moving_average]": (
        "test_conformance.py::test_keras_file_brings_back_weights_slots_*[vq_vae]",
    ),
    "distributions/test_transformer.py::test_fit_is_reproducible_and_its_order_depends_on_the*": (
        "distributions/test_transformer.py::test_fit_learns_a_distribution_of_codes_and_a_second*",
    ),
    "models/test_invalid_data.py::test_random_data_give_the_reference_or_a_*[hierarchical_vae]": (
        "models/test_invalid_data.py::test_random_data_give_the_reference_or_a_value_error[vae]",
    ),
    **{
        f"test_project.py::test_an_example_trains_and_writes_its_files[{script}]": (
            "test_project.py::test_an_example_trains_and_writes_its_files[custom_training_loop.py]",
        )
        for script in (
            "own_images.py",
            "own_networks.py",
            "own_table.py",
            "train_autoencoder.py",
            "train_gan.py",
            "train_vae.py",
        )
    },
    "test_project.py::test_the_wheel_contains_the_package_and_works_alone": (
        "test_project.py::test_the_package_data_name_every_file",
    ),
    "data/test_fuzzed_data.py::test_damaged_images_are_read_or_refused[many]": (
        "data/test_fuzzed_data.py::test_damaged_images_are_read_or_refused[few]",
    ),
    "data/test_fuzzed_data.py::test_damaged_npz_files_are_read_or_refused[many]": (
        "data/test_fuzzed_data.py::test_damaged_npz_files_are_read_or_refused[few]",
    ),
    "distributions/test_posteriors.py::test_a_flow_fits_what_a_normal_cannot": (
        "test_combinations.py::test_every_weight_learns[flow-*",
    ),
    "test_dtypes.py::test_each_model_trains_saves_and_generates[*-graph]": (
        "test_dtypes.py::test_each_model_trains_saves_and_generates[*-bfloat16-eager]",
    ),
    "test_dtypes.py::test_each_model_trains_saves_and_generates[conditional_*-float16-eager]": (
        "test_dtypes.py::test_each_model_trains_saves_and_generates[*-bfloat16-eager]",
    ),
    "models/test_autoencoder.py::test_training_is_that_of_a_plain_keras_model[log_cosh]": (
        "models/test_autoencoder.py::test_training_is_that_of_a_plain_keras_model[mse]",
    ),
    # a browser and a server; the same functions are called in this process
    "explore/test_explore.py::test_in_a_browser_sliders_classes_and_strokes_change_the_images": (
        "explore/test_exploration.py::test_latents_are_decoded_sampled_and_encoded_as_the_model_*",
        "explore/test_exploration.py::test_the_anomaly_score_is_that_of_the_model_and_is_*",
        "explore/test_exploration.py::test_a_line_on_the_canvas_is_white_and_has_the_width_of_*",
    ),
    # the step, the checkpoints and the export do not depend on the layers of the networks
    "networks/test_residual.py::test_two_replicas_train_like_one[*": (
        "networks/test_residual.py::test_every_mode_is_the_same_training[*-mixed_float16]",
        "test_conformance.py::test_two_replicas_see_the_whole_batch[autoencoder]",
    ),
    "networks/test_residual.py::test_a_saved_model_continues_bit_for_bit_and_its_export_*": (
        "networks/test_residual.py::test_a_stopped_training_resumes_bit_for_bit[vae]",
        "networks/test_residual.py::test_the_decoder_is_the_formula",
    ),
    "networks/test_residual.py::test_a_stopped_training_resumes_bit_for_bit[gan]": (
        "networks/test_residual.py::test_a_stopped_training_resumes_bit_for_bit[vae]",
    ),
    "fitting/test_labels.py::test_labels_of_arrays_and_generators_are_checked[1099511627776]": (
        "fitting/test_labels.py::test_labels_of_arrays_and_generators_are_checked[-1]",
    ),
    "fitting/test_faults.py::test_stopped_elsewhere[full disk at model.keras-*": (
        "serving/test_publish.py::test_a_full_disk_is_an_error_and_earlier_versions_stay",
    ),
    "models/test_anomalies.py::test_exported_scores_are_those_of_the_model[table_vae]": (
        "models/test_anomalies.py::test_exported_scores_are_those_of_the_model[table_autoencoder]",
        "serving/test_table_serving.py::test_the_loader_gives_what_keras_gives",
    ),
    "models/test_anomalies.py::test_a_planted_patch_contains_the_pixel_*[grating_vae]": (
        "models/test_anomalies.py::test_a_planted_patch_contains_*[grating_autoencoder]",
    ),
    "serving/test_verify.py::test_a_categorical_likelihood_whose_scores_may_be_infinite_is_*": (
        "serving/test_verify.py::test_every_model_has_no_problem[vae]",
        "serving/test_verify.py::test_mixed_precision_has_a_larger_tolerance",
    ),
    "test_conformance.py::test_two_replicas_see_the_whole_batch[gan]": (
        "test_conformance.py::test_two_replicas_see_the_whole_batch[autoencoder]",
        "models/test_gan.py::test_penalties_and_the_average_on_two_replicas_are_those_of_one",
    ),
    "models/test_vae.py::test_a_flow_posterior_trains_its_weights_saves_them_and_exports": (
        "test_combinations.py::test_every_weight_learns[flow-*",
        "models/test_vae.py::test_scores_are_the_same_alone_and_among_others_and_*[flow]",
    ),
    # the kinds and modes that go through the same lines of the base as their siblings
    **{
        f"{SAME}[{kind}-two steps an execution]": (f"{SAME}[autoencoder-two steps an execution]",)
        for kind in ("vae", "gan", "hierarchical_vae", "vq_vae")
    },
    f"{SAME}[hierarchical_vae-graph]": (f"{SAME}[vae-graph]",),
    f"{MIXED}[hierarchical_vae-mixed_float16-graph]": (f"{MIXED}[vae-mixed_float16-graph]",),
    f"{MIXED}[autoencoder-mixed_bfloat16-XLA]": (f"{MIXED}[autoencoder-mixed_float16-XLA]",),
    **{
        f"{NOT_TAKEN}[{kind}-*": (f"{NOT_TAKEN}[autoencoder-*", f"{NOT_TAKEN}[gan-gradient-*")
        for kind in ("hierarchical_vae", "vae", "vq_vae", "gan-loss")
    },
    **{
        f"test_conformance.py::{test}[{kind}*": (f"test_conformance.py::{test}[{sibling}*",)
        for kind, sibling in (("hierarchical_vae", "gan"), ("vae", "gan"))
        for test in (
            "test_keras_file_brings_back_weights_slots_counters_and_the_training_to_come",
            "test_frozen_networks_do_not_move",
            "test_weights_of_zero_are_examples_left_out",
        )
    },
    "test_conformance.py::test_weights_of_zero_are_examples_left_out[vq_vae]": (
        "test_conformance.py::test_weights_of_zero_are_examples_left_out[autoencoder]",
    ),
    "test_conformance.py::test_signatures_are_those_of_the_serving_contract[hierarchical_vae]": (
        "test_conformance.py::test_signatures_are_those_of_the_serving_contract[vae]",
        "serving/test_verify.py::test_every_model_has_no_problem[hierarchical_vae]",
    ),
    "test_conformance.py::test_the_quick_training_function_does_what_*[data set of unknown*": (
        "test_conformance.py::test_the_quick_training_function_does_what_*[generator with*",
    ),
    **{
        f"test_dtypes.py::test_each_model_trains_saves_and_generates[*-{dtype}-eager]": (
            "test_dtypes.py::test_each_model_trains_saves_and_generates[*-bfloat16-eager]",
        )
        for dtype in ("float16", "float64")
    },
    "test_dtypes.py::test_the_dtype_of_a_model_or_a_prior_is_an_argument[*-float64]": (
        "test_dtypes.py::test_the_dtype_of_a_model_or_a_prior_is_an_argument[*-bfloat16]",
    ),
    "test_dtypes.py::test_every_distribution_trains[f*_0]": (
        "test_dtypes.py::test_every_distribution_trains[diagonal-*",
        "test_combinations.py::test_every_weight_learns[f*",
    ),
    "test_saving.py::test_hdf5_is_refused_and_leaves_the_model_usable[*_vae-*": (
        "test_saving.py::test_hdf5_is_refused_and_leaves_the_model_usable[gan-*",
    ),
    "test_saving.py::test_copies_of_models_generate_the_same_and_are_independent[*_vae-*": (
        "test_saving.py::test_copies_of_models_generate_the_same_and_are_independent[vae-*",
    ),
    **{
        f"models/test_invalid_data.py::test_{test}[{kind}-*": (
            f"models/test_invalid_data.py::test_{test}[vae-*",
        )
        for kind in ("hierarchical_vae", "conditional_vae")
        for test in (
            "every_method_refuses_invalid_data",
            "every_signature_refuses_or_marks_invalid_data",
        )
    },
    **{
        f"models/test_invalid_data.py::test_random_{test}[{kind}]": (
            f"models/test_invalid_data.py::test_random_{test}[vae]",
            f"models/test_invalid_data.py::test_random_{test}[conditional_gan]",
        )
        for kind in ("hierarchical_vae", "conditional_vae")
        for test in (
            "data_give_the_reference_or_a_value_error",
            "requests_give_the_reference_or_an_error",
        )
    },
    "models/test_hierarchical_vae.py::test_it_trains_saves_and_continues[bottom_up-*": (
        "models/test_hierarchical_vae.py::test_it_trains_saves_and_continues[top_down-*",
        "models/test_hierarchical_vae.py::test_every_weight_learns_and_is_counted_once[bottom_up]",
    ),
    "models/test_hierarchical_vae.py::test_it_trains_saves_and_continues[*-objective1]": (
        "models/test_hierarchical_vae.py::test_it_trains_saves_and_continues[*-objective0]",
    ),
    "models/test_hierarchical_vae.py::test_labels_reach_every_network[bottom_up]": (
        "models/test_hierarchical_vae.py::test_labels_reach_every_network[top_down]",
    ),
    "models/test_hierarchical_vae.py::test_missing_pixels_are_imputed[bottom_up]": (
        "models/test_hierarchical_vae.py::test_missing_pixels_are_imputed[top_down]",
    ),
    "models/test_hierarchical_vae.py::test_bottom_up_inference_takes_any_posterior[full]": (
        "models/test_hierarchical_vae.py::test_bottom_up_inference_takes_any_posterior[flow]",
    ),
    # fits a transformer; its likelihood, samples and files have tests without a training
    "models/test_vector_quantized.py::test_fit_prior_fits_the_codes_of_the_data[array]": (
        "models/test_vector_quantized.py::test_the_exported_functions_use_codes",
        "distributions/test_transformer.py::test_fit_learns_a_distribution_of_codes_and_a_second*",
    ),
    "models/test_vector_quantized.py::test_a_resumed_training_is_bit_for_bit*[gradient]": (
        "test_conformance.py::test_keras_file_brings_back_weights_slots_*[vq_vae]",
    ),
    "models/test_vector_quantized.py::test_other_seeds_restart_codes_with_other_latents": (
        "networks/test_quantizer.py::*restart*",
    ),
    "keras_gen/models/vector_quantized.py::*VectorQuantizedAutoencoder": (
        "models/test_vector_quantized.py::test_training_lowers_the_loss_and_uses_more_codes",
        "models/test_vector_quantized.py::test_the_exported_functions_use_codes",
    ),
    "keras_gen/distributions/transformer.py::*TransformerPrior": (
        "distributions/test_transformer.py::test_fit_learns_a_distribution_of_codes_and_a_second*",
    ),
    "models/test_conditional_vae.py::test_it_trains_saves_evaluates_and_generates[parts2]": (
        "models/test_conditional_vae.py::test_it_trains_saves_evaluates_and_generates[parts0]",
    ),
    "models/test_conditional_vae.py::test_it_trains_saves_evaluates_and_generates[parts3]": (
        "models/test_conditional_vae.py::test_it_trains_saves_evaluates_and_generates[parts0]",
    ),
    "models/test_latent_densities.py::test_generate_uses_the_density_also_saved_*[*-mixture]": (
        "models/test_latent_densities.py::test_generate_uses_the_density_also_saved_*[*-flow]",
    ),
    "models/test_latent_densities.py::test_a_density_replaces_the_earlier_one_*[vae]": (
        "models/test_latent_densities.py::test_a_density_replaces_the_earlier_one_*[autoencoder]",
    ),
    "serving/test_density_loader.py::test_the_loader_generates_from_a_fitted_flow_as_keras_does": (
        "models/test_latent_densities.py::test_generate_uses_the_density_also_saved_*[*-flow]",
    ),
    "models/test_autoencoder.py::test_training_is_that_of_a_plain_keras_model[*_crossentropy]": (
        "models/test_autoencoder.py::test_training_is_that_of_a_plain_keras_model[mse]",
    ),
    "models/test_autoencoder.py::test_training_is_that_of_a_plain_keras_model[MeanAbsolute*": (
        "models/test_autoencoder.py::test_training_is_that_of_a_plain_keras_model[mse]",
    ),
    "models/test_autoencoder.py::test_the_regularization_loss_is_lambda_times_*[20-*": (
        "models/test_autoencoder.py::test_the_regularization_loss_is_lambda_times_*[3-*",
    ),
    "models/test_gan.py::test_a_step_is_that_of_two_players_written_by_hand[with all*": (
        "models/test_gan.py::test_a_step_is_that_of_two_players_written_by_hand[as the notes]",
        f"{PENALTY}[*",
    ),
    "models/test_missing_data.py::test_a_mixed_table_with_holes_trains_*[objective1]": (
        "models/test_missing_data.py::test_a_mixed_table_with_holes_trains_*[objective0]",
    ),
    # trainings that are stopped or fail; the callbacks do the same in this process
    "fitting/test_faults.py::test_stopped_elsewhere[SIGTERM in validation-*": (
        f"{KILLED} checkpoint's checksums-*",
        "fitting/test_checkpoints.py::test_ctrl_c_is_a_keyboard_interrupt_after_the_checkpoint*",
    ),
    "fitting/test_faults.py::test_stopped_elsewhere[full disk at a checkpoint-*": (
        f"{KILLED} checkpoint's checksums-*",
        "serving/test_publish.py::test_a_full_disk_is_an_error_and_earlier_versions_stay",
    ),
    "fitting/test_faults.py::test_a_damaged_checkpoint_is_renamed[a bit of the weights *": (
        "fitting/test_checkpoints.py::test_a_damaged_checkpoint_is_renamed_and_*[flip]",
    ),
    "fitting/test_faults.py::test_a_training_that_diverges_stops[*": (
        f"{NOT_TAKEN}[autoencoder-*",
    ),
    "fitting/test_checkpoints.py::test_every_mode_of_execution_resumes[mixed_float16]": (
        "fitting/test_checkpoints.py::test_every_mode_of_execution_resumes[*steps_per_execution*",
        "test_conformance.py::test_keras_file_brings_back_weights_slots_*[autoencoder]",
    ),
    **{
        f"{RESUMED}[autoencoder-{form}-*": (f"{RESUMED}[autoencoder-as_arrays-*",)
        for form in ("as_dataset", "as_endless_dataset", "as_generator")
    },
    "fitting/test_fused_adam.py::test_training_ends_with_the_weights_of_keras_own[gan-False]": (
        f"{FUSED}[autoencoder-False]",
    ),
    "fitting/test_labels.py::test_labels_of_a_data_set_are_checked_in_the_step[*-4-graph]": (
        "fitting/test_labels.py::test_labels_of_a_data_set_are_checked_in_the_step[*--1-graph]",
    ),
    **{
        f"runs/test_run.py::test_a_run_writes_its_files[{kind}]": (
            "runs/test_run.py::test_a_run_writes_its_files[autoencoder]",
        )
        for kind in ("hierarchical_vae", "vq_vae", "vae", "gan")
    },
    "runs/test_run.py::test_a_conditional_run_generates_each_label_in_turn[vae]": (
        "runs/test_run.py::test_a_conditional_run_generates_each_label_in_turn[gan]",
    ),
    "runs/test_density_runs.py::test_a_run_of_an_autoencoder_has_the_density_that_was_*": (
        "runs/test_density_runs.py::test_settings_that_do_not_fit_are_refused",
        "models/test_latent_densities.py::test_generate_uses_the_density_also_saved_*[*-flow]",
    ),
    "networks/test_residual.py::test_every_mode_is_the_same_training[gan-two steps*": (
        f"{RESIDUAL}[vae-two steps per execution]",
    ),
    "networks/test_residual.py::test_every_mode_is_the_same_training[vae-mixed_float16]": (
        f"{RESIDUAL}[gan-mixed_float16]",
    ),
    "evaluation/test_quality.py::test_the_logs_of_fit_have_it_for_the_callbacks_after[*_vae]": (
        "evaluation/test_quality.py::test_the_logs_of_fit_have_it_for_the_callbacks_after[vae]",
    ),
    "test_regularizers.py::test_an_autoencoder_with_mmd_gets_new_prior_samples_*[compiled1]": (
        "test_regularizers.py::test_an_autoencoder_with_mmd_gets_new_prior_samples_*[compiled0]",
    ),
    "test_total_correlation.py::test_a_vae_trains_with_it_in_a_graph[compiled1]": (
        "test_total_correlation.py::test_a_vae_trains_with_it_in_a_graph[compiled0]",
    ),
    "serving/test_verify.py::test_every_model_has_no_problem[conditional_*": (
        "serving/test_verify.py::test_every_model_has_no_problem[*ae]",
        "serving/test_cpp_loader.py::test_it_offers_and_answers_every_signature_*[conditional_*",
    ),
    "test_export.py::test_other_runtimes_compute_what_keras_computes[conditional_vae-*": (
        "test_export.py::test_other_runtimes_compute_what_keras_computes[tiny_vae-*",
    ),
    "test_docs.py::test_tutorials_run[3_*": ("test_docs.py::test_tutorials_run[1_*",),
    "test_docs.py::test_tutorials_run[4_*": ("test_docs.py::test_tutorials_run[1_*",),
    "runs/test_report.py::test_in_a_browser_it_fits_a_phone_and_paper": ("runs/test_report.py::*",),
    "test_mutate.py::test_a_mutant_that_never_ends_is_caught": ("test_mutate.py::*",),
    "test_fuzz.py::test_damaged_files_are_errors_of_ours[checkpoints]": (
        "fitting/test_checkpoints.py::test_a_damaged_checkpoint_is_renamed_and_*[*",
        "test_fuzz.py::test_damaged_files_are_errors_of_ours[models]",
    ),
    "models/test_invalid_data.py::test_random_data_give_the_reference_or_a_value_error[vq_vae]": (
        "models/test_invalid_data.py::test_random_data_give_the_reference_or_a_value_error[vae]",
    ),
    "fitting/test_faults.py::test_a_damaged_checkpoint_is_renamed[the weights cut off-*": (
        "fitting/test_faults.py::test_a_damaged_checkpoint_is_renamed[the checksums *",
    ),
    "test_regularizers.py::test_the_mmd_is_unbiased_and_compares_with_*[rbf]": (
        "test_regularizers.py::test_the_mmd_is_unbiased_and_compares_with_*[imq]",
    ),
    "test_export.py::test_other_runtimes_compute_what_keras_computes[tiny_gan-*-litert]": (
        "test_export.py::test_other_runtimes_compute_what_keras_computes[tiny_vae-*-litert]",
    ),
    "test_dtypes.py::test_the_dtype_of_a_model_or_a_prior_is_an_argument[*_vae-bfloat16]": (
        "test_dtypes.py::test_the_dtype_of_a_model_or_a_prior_is_an_argument[vae-bfloat16]",
    ),
    "fitting/test_checkpoints.py::test_a_damaged_checkpoint_is_renamed_and_*[remove]": (
        "fitting/test_checkpoints.py::test_a_damaged_checkpoint_is_renamed_and_*[flip]",
    ),
    "models/test_conditional_vae.py::test_it_trains_saves_evaluates_and_generates[parts1]": (
        "models/test_conditional_vae.py::test_it_trains_saves_evaluates_and_generates[parts0]",
    ),
    "runs/test_density_runs.py::test_only_runs_of_autoencoders_and_vaes_have_densities": (
        "runs/test_density_runs.py::test_settings_that_do_not_fit_are_refused",
    ),
}
"""Pattern of slow tests → patterns of their quick siblings, both below `tests/`."""


def matching(pattern, names):
    """Return the names that match a pattern, in which `*` stands for any text."""
    expression = re.compile(".*".join(map(re.escape, pattern.split("*"))))
    return {name for name in names if expression.fullmatch(name)}


def slow_of(names):
    """Return the names of the slow tests."""
    return set().union(*(matching(pattern, names) for pattern in SLOW))
