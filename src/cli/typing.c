/* SPDX-License-Identifier: Apache-2.0 */
/* typing.c: see typing.h. */
#include "cli/typing.h"

const lb_opt lb_typing_opts[LB_TYPING_OPTS] = {
    {.name = "type",
     .kind = LB_OPT_STR,
     .arg = "TYPE[,TYPE...]",
     .help = "what matrices become: a type or recipe of llama.cpp (q4_k_m, iq4_xs, q8_0...); "
             "several make several outputs in one read: -o 'model-{type}.gguf'; for --to mlx "
             "mlx-q4, mlx-mxfp4, mlx-mixed_3_6...; for --to hf fp8, fp8-block, w4a16, w8a8",
     .off = offsetof(lb_typing, type)},
    {.name = "group-size",
     .kind = LB_OPT_ENUM,
     .arg = "auto|32|64|128|channel|tensor",
     .initial = "auto",
     .help = "what has a scale of its own, in types of MLX (groups; auto: 64, or the type's only "
             "one) and Hugging Face (groups, a row, a tensor; auto: w4a16 128, fp8 and w8a8 a row)",
     .off = offsetof(lb_typing, group)},
    {.name = "sym",
     .kind = LB_OPT_FLAG,
     .help = "types of Hugging Face without zero points (what they have unless asked)",
     .off = offsetof(lb_typing, sym)},
    {.name = "asym",
     .kind = LB_OPT_FLAG,
     .help = "w4a16 with zero points: codes for a range that is not the same on both sides of 0",
     .off = offsetof(lb_typing, asym)},
    {.name = "mlx-rule",
     .kind = LB_OPT_ENUM,
     .arg = "metal|cpu",
     .initial = "metal",
     .help = "codes of MLX as it makes them on a GPU, or on a CPU: they differ in the last bit",
     .off = offsetof(lb_typing, mlx_rule)},
    {.name = "override",
     .kind = LB_OPT_STR,
     .arg = "REGEX=TYPE",
     .repeatable = true,
     .help = "this type for tensors in whose names the pattern is found; the first that fits "
             "counts; one that fits none is an error",
     .off = offsetof(lb_typing, overrides)},
    {.name = "rules",
     .kind = LB_OPT_PATH,
     .arg = "FILE",
     .help = "more of them, one a line, after the others; # begins a comment",
     .off = offsetof(lb_typing, rules)},
    {.name = "target-bpw",
     .kind = LB_OPT_FLOAT,
     .arg = "X",
     .help =
         "the types with the least measured error for so many bits a value in all; --type names "
         "those to choose from. Embeddings, head and routers keep 6 bit and more. A dry run "
         "measures too",
     .off = offsetof(lb_typing, target_bpw)},
    {.name = "target-size",
     .kind = LB_OPT_SIZE,
     .arg = "SIZE",
     .min = 1,
     .help = "the same for files of at most this size",
     .off = offsetof(lb_typing, target_bytes)},
    {.name = "pure",
     .kind = LB_OPT_FLAG,
     .help = "the type itself for all matrices, without the recipe's exceptions",
     .off = offsetof(lb_typing, pure)},
    {.name = "protect",
     .kind = LB_OPT_FLAG,
     .help = "embeddings, head and routers keep 6 bit and more, whatever the recipe",
     .off = offsetof(lb_typing, protect)},
    {.name = "refine",
     .kind = LB_OPT_FLAG,
     .help = "less error in the same format, in more time: codes and scales are chosen again, and "
             "taken where a block's error is smaller",
     .off = offsetof(lb_typing, refine)},
    {.name = "imatrix",
     .kind = LB_OPT_PATH,
     .arg = "FILE",
     .help = "importance matrix (GGUF or .dat) of this model: errors are weighted by it",
     .off = offsetof(lb_typing, imatrix)},
    {.name = "sensitivity",
     .kind = LB_OPT_PATH,
     .arg = "FILE",
     .help = "for --target-bpw and --target-size: what the model loses by each tensor and type, "
             "measured by lbrx sensitivity, in place of the errors of the weights",
     .off = offsetof(lb_typing, sensitivity)},
    {.name = "include-weights",
     .kind = LB_OPT_STR,
     .arg = "NAME",
     .repeatable = true,
     .help = "importance for tensors only whose names hold this",
     .off = offsetof(lb_typing, include)},
    {.name = "exclude-weights",
     .kind = LB_OPT_STR,
     .arg = "NAME",
     .repeatable = true,
     .help = "no importance for tensors whose names hold this",
     .off = offsetof(lb_typing, exclude)},
    {.name = "output-tensor-type",
     .kind = LB_OPT_STR,
     .arg = "TYPE",
     .help = "type of output.weight (or of the embedding that stands for it)",
     .off = offsetof(lb_typing, output_type)},
    {.name = "token-embedding-type",
     .kind = LB_OPT_STR,
     .arg = "TYPE",
     .help = "type of the token embedding",
     .off = offsetof(lb_typing, embedding_type)},
    {.name = "leave-output-tensor",
     .kind = LB_OPT_FLAG,
     .help = "output.weight stays as it is",
     .off = offsetof(lb_typing, keep_output)},
    {.name = "tensor-type",
     .kind = LB_OPT_STR,
     .arg = "REGEX=TYPE",
     .repeatable = true,
     .help =
         "--override as llama-quantize reads it: capitals of the pattern count as small letters",
     .off = offsetof(lb_typing, tensor_types)},
    {.name = "tensor-type-file",
     .kind = LB_OPT_PATH,
     .arg = "FILE",
     .help = "such overrides, between blanks or lines",
     .off = offsetof(lb_typing, tensor_type_file)},
    {.name = "max-buffer-size",
     .kind = LB_OPT_INT,
     .arg = "MIB",
     .min = 1,
     .max = INT32_MAX,
     .hidden = true,
     .help = "of llama-quantize: --memory rules here",
     .off = offsetof(lb_typing, max_buffer)},
    {.name = "allow-requantize",
     .kind = LB_OPT_FLAG,
     .hidden = true,
     .help = "allowed anyway, with a warning",
     .off = offsetof(lb_typing, requantize)},
};

bool lb_typing_given(const lb_typing *t) {
    return t->type || t->target_bpw != 0 || t->target_bytes;
}

lb_status lb_typing_fill(const lb_typing *t, lb_quantize_opts *out, lb_err *err) {
    if (t->target_bpw < 0)
        return lb_fail(err, LB_E_USAGE, "--target-bpw: bits a value are more than 0");
    static const u32 groups[] = {0, 32, 64, 128, 0, 0};
    static const lb_quant_size sizes[] = {LB_SIZE_AUTO,   LB_SIZE_GROUPS,  LB_SIZE_GROUPS,
                                          LB_SIZE_GROUPS, LB_SIZE_CHANNEL, LB_SIZE_TENSOR};
    *out = (lb_quantize_opts){.size = sizes[t->group],
                              .group = groups[t->group],
                              .sym = t->sym,
                              .asym = t->asym,
                              .cpu_rule = t->mlx_rule == 1,
                              .refine = t->refine,
                              .target_bpw = t->target_bpw,
                              .target_bytes = t->target_bytes,
                              .type = t->type,
                              .overrides = t->overrides.item,
                              .n_overrides = t->overrides.n,
                              .rules = t->rules,
                              .tensor_types = t->tensor_types.item,
                              .n_tensor_types = t->tensor_types.n,
                              .tensor_type_file = t->tensor_type_file,
                              .output_type = t->output_type,
                              .embedding_type = t->embedding_type,
                              .keep_output = t->keep_output,
                              .pure = t->pure,
                              .protect = t->protect,
                              .imatrix = t->imatrix,
                              .sensitivity = t->sensitivity,
                              .max_buffer = t->max_buffer != 0,
                              .include = t->include.item,
                              .n_include = t->include.n,
                              .exclude = t->exclude.item,
                              .n_exclude = t->exclude.n};
    if (out->type && strcmp(out->type, "keep") == 0) {
        out->keep = true;
        out->type = NULL;
    }
    bool how = t->overrides.n || t->rules || t->pure || t->protect || t->refine || t->imatrix ||
               t->sensitivity || t->include.n || t->exclude.n || t->output_type ||
               t->embedding_type || t->keep_output || t->tensor_types.n || t->tensor_type_file ||
               t->group || t->sym || t->asym;
    if (how && !lb_typing_given(t))
        return lb_fail(err, LB_E_USAGE,
                       "an option says how types are chosen, and none is asked for: name one with "
                       "--type, or give a --target-bpw or --target-size");
    if (out->keep &&
        (t->overrides.n || t->rules || t->pure || t->protect || t->tensor_types.n ||
         t->tensor_type_file || t->output_type || t->embedding_type || t->keep_output || t->group ||
         t->sym || t->asym || t->target_bpw != 0 || t->target_bytes))
        return lb_fail(err, LB_E_USAGE,
                       "--type keep: the types are those of the base: no other option changes one");
    return LB_OK;
}
