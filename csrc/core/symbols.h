/* Names that a profiler or debugger shows carry their instruction set: gemm is the symbol gemm_avx2 in variants/avx2.c.

   Every function that is not always inlined is listed here; tests/nn/native/test_profiler_symbols.py finds one that is missing.  */

#ifndef RK_SYMBOLS_H
#define RK_SYMBOLS_H

#define RK_STRING_OF(name) #name
#define RK_STRING(name) RK_STRING_OF(name)
#define RK_JOIN_OF(name, isa) name##_##isa
#define RK_JOIN(name, isa) RK_JOIN_OF(name, isa)
#define ISA(name) RK_JOIN(name, RK_NAME)

/* core/gemm.h */
#define gemm ISA(gemm)
#define gemm_dense ISA(gemm_dense)
#define gemm_transpose_panels ISA(gemm_transpose_panels)
#define gemm_transpose ISA(gemm_transpose)

/* core/fma_peak.h */
#define multiply_adds ISA(multiply_adds)

/* conv/axis.h */
#define first_of_class ISA(first_of_class)
#define next_of_class ISA(next_of_class)
#define class_size ISA(class_size)

/* conv/plan.h */
#define plan_strips ISA(plan_strips)
#define plan_line ISA(plan_line)
#define plan_direct ISA(plan_direct)
#define plan_fill ISA(plan_fill)
#define plan_build ISA(plan_build)

/* conv/winograd_plan.h */
#define tile_axis ISA(tile_axis)
#define products_from ISA(products_from)
#define first_tile ISA(first_tile)
#define winograd_pays ISA(winograd_pays)
#define large_pays ISA(large_pays)
#define class_products ISA(class_products)
#define winograd_plan_class ISA(winograd_plan_class)
#define winograd_plan ISA(winograd_plan)

/* conv/winograd.h */
#define winograd_filter ISA(winograd_filter)
#define winograd_input ISA(winograd_input)
#define winograd_output ISA(winograd_output)
#define winograd_output_transpose ISA(winograd_output_transpose)
#define winograd_chunk ISA(winograd_chunk)
#define winograd_weight ISA(winograd_weight)

/* conv/direct.h */
#define direct_chunk ISA(direct_chunk)
#define gather_columns ISA(gather_columns)
#define direct_weight_gathered ISA(direct_weight_gathered)
#define direct_weight_split ISA(direct_weight_split)
#define direct_weight_strip ISA(direct_weight_strip)

/* conv/conv.h */
#define conv_fits ISA(conv_fits)
#define conv_build ISA(conv_build)
#define run_item ISA(run_item)
#define conv_item ISA(conv_item)
#define conv_back_item ISA(conv_back_item)
#define weight_partial ISA(weight_partial)
#define conv_weight_item ISA(conv_weight_item)
#define conv_weight_finish ISA(conv_weight_finish)

/* conv/pack.h */
#define pack_rows ISA(pack_rows)
#define conv_pack ISA(conv_pack)
#define conv_pack_back ISA(conv_pack_back)
#define pad_vector ISA(pad_vector)
#define unpad_kernel ISA(unpad_kernel)
#define restride ISA(restride)

/* conv/single.h */
#define single_size ISA(single_size)
#define forward_body ISA(forward_body)
#define single_forward ISA(single_forward)
#define input_body ISA(input_body)
#define single_input ISA(single_input)
#define weight_body ISA(weight_body)
#define single_weight ISA(single_weight)

/* network/block.h */
#define moments ISA(moments)
#define block_conv ISA(block_conv)
#define block_statistics ISA(block_statistics)
#define block_pool ISA(block_pool)
#define block_activate ISA(block_activate)
#define block_sums ISA(block_sums)
#define block_merge ISA(block_merge)
#define block_back_plain ISA(block_back_plain)
#define block_back_pooled ISA(block_back_pooled)
#define block_back ISA(block_back)

/* network/band.h */
#define banded ISA(banded)
#define band_layout ISA(band_layout)
#define band_inputs ISA(band_inputs)
#define band_forward ISA(band_forward)
#define band_weight ISA(band_weight)

/* network/network.h */
#define block_build ISA(block_build)
#define network_layout_saved ISA(network_layout_saved)
#define network_use_saved ISA(network_use_saved)
#define network_fits ISA(network_fits)
#define network_build ISA(network_build)
#define layer_kernel ISA(layer_kernel)
#define network_pack_items ISA(network_pack_items)
#define pack_item_at ISA(pack_item_at)
#define pad_layer ISA(pad_layer)
#define network_pack ISA(network_pack)

/* network/optimizer.h */
#define step_of ISA(step_of)
#define update_range ISA(update_range)

/* network/finish.h */
#define block_weight_item ISA(block_weight_item)
#define dense_gradient ISA(dense_gradient)
#define finished_whole ISA(finished_whole)
#define update_channels ISA(update_channels)
#define finish_items ISA(finish_items)
#define finish_item ISA(finish_item)

/* network/gradient.h */
#define finish_statistics ISA(finish_statistics)
#define network_forward ISA(network_forward)
#define network_loss ISA(network_loss)
#define block_below_item ISA(block_below_item)
#define finish_merge ISA(finish_merge)
#define dense_backward ISA(dense_backward)
#define vector_gradients ISA(vector_gradients)
#define block_backward ISA(block_backward)
#define network_gradient ISA(network_gradient)

/* network/block_dot.h */
#define block_pool_dot ISA(block_pool_dot)
#define block_sums_dot ISA(block_sums_dot)
#define block_statistics_dot ISA(block_statistics_dot)
#define block_activate_dot ISA(block_activate_dot)
#define finish_statistics_dot ISA(finish_statistics_dot)
#define block_sums_back_dot ISA(block_sums_back_dot)
#define block_back_plain_dot ISA(block_back_plain_dot)
#define block_back_pooled_dot ISA(block_back_pooled_dot)
#define block_back_dot ISA(block_back_dot)

/* network/hvp.h */
#define network_pack_dot ISA(network_pack_dot)
#define network_loss_dot ISA(network_loss_dot)
#define network_forward_dot ISA(network_forward_dot)
#define conv_adjoints_dot ISA(conv_adjoints_dot)
#define block_backward_dot ISA(block_backward_dot)
#define network_recompute ISA(network_recompute)
#define network_hessian_product ISA(network_hessian_product)

/* network/mlp.h */
#define mlp_layout_saved ISA(mlp_layout_saved)
#define mlp_use_saved ISA(mlp_use_saved)
#define mlp_fits ISA(mlp_fits)
#define mlp_build ISA(mlp_build)
#define dense_weights ISA(dense_weights)
#define mlp_pack ISA(mlp_pack)
#define dense_rows ISA(dense_rows)
#define dense_product ISA(dense_product)
#define dense_input ISA(dense_input)
#define dense_sums ISA(dense_sums)
#define dense_gradients ISA(dense_gradients)
#define mlp_forward ISA(mlp_forward)
#define mlp_loss ISA(mlp_loss)
#define mlp_gradient ISA(mlp_gradient)
#define mlp_hessian_product ISA(mlp_hessian_product)

/* network/inner_loop.h */
#define loop_step ISA(loop_step)
#define keep_residuals ISA(keep_residuals)
#define network_inner_loop ISA(network_inner_loop)
#define mlp_inner_loop ISA(mlp_inner_loop)

#endif
