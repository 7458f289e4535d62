/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_quantize.c: `lbrx quantize`: a conversion with ops/quantize.h's choice of types. */
#include "cli/convert.h"
#include "ops/quantize.h"

typedef struct quantize_opts {
    lb_common common;
    lb_writing writing;
    const char *type;
    double target_bpw;
    u64 target_bytes;
    lb_opt_list overrides, tensor_types, include, exclude;
    const char *rules, *tensor_type_file, *output_type, *embedding_type, *imatrix, *prune;
    bool keep_output, pure, protect, requantize, keep_split, refine;
    u32 group; /* index of group_sizes */
    bool sym, asym;
    u32 mlx_rule; /* metal|cpu */
    u64 max_buffer;
    lb_opt_list set, unset, override_kv;
    const char *chat_template;
    u32 vision, mtp; /* lb_keep */
} quantize_opts;

static const lb_opt quantize_rows[] = {
    {.name = "type",
     .kind = LB_OPT_STR,
     .arg = "TYPE[,TYPE...]",
     .help = "what matrices become: a type or recipe of llama.cpp (q4_k_m, iq4_xs, q8_0...); "
             "several make several outputs in one read: -o 'model-{type}.gguf'; for --to mlx "
             "mlx-q4, mlx-mxfp4, mlx-mixed_3_6...; for --to hf fp8, fp8-block, w4a16, w8a8",
     .off = offsetof(quantize_opts, type)},
    {.name = "group-size",
     .kind = LB_OPT_ENUM,
     .arg = "auto|32|64|128|channel|tensor",
     .initial = "auto",
     .help = "what has a scale of its own, in types of MLX (groups; auto: 64, or the type's only "
             "one) and Hugging Face (groups, a row, a tensor; auto: w4a16 128, fp8 and w8a8 a row)",
     .off = offsetof(quantize_opts, group)},
    {.name = "sym",
     .kind = LB_OPT_FLAG,
     .help = "types of Hugging Face without zero points (what they have unless asked)",
     .off = offsetof(quantize_opts, sym)},
    {.name = "asym",
     .kind = LB_OPT_FLAG,
     .help = "w4a16 with zero points: codes for a range that is not the same on both sides of 0",
     .off = offsetof(quantize_opts, asym)},
    {.name = "mlx-rule",
     .kind = LB_OPT_ENUM,
     .arg = "metal|cpu",
     .initial = "metal",
     .help = "codes of MLX as it makes them on a GPU, or on a CPU: they differ in the last bit",
     .off = offsetof(quantize_opts, mlx_rule)},
    {.name = "override",
     .kind = LB_OPT_STR,
     .arg = "REGEX=TYPE",
     .repeatable = true,
     .help = "this type for tensors in whose names the pattern is found; the first that fits "
             "counts; one that fits none is an error",
     .off = offsetof(quantize_opts, overrides)},
    {.name = "rules",
     .kind = LB_OPT_PATH,
     .arg = "FILE",
     .help = "more of them, one a line, after the others; # begins a comment",
     .off = offsetof(quantize_opts, rules)},
    {.name = "target-bpw",
     .kind = LB_OPT_FLOAT,
     .arg = "X",
     .help =
         "the types with the least measured error for so many bits a value in all; --type names "
         "those to choose from. Embeddings, head and routers keep 6 bit and more. A dry run "
         "measures too",
     .off = offsetof(quantize_opts, target_bpw)},
    {.name = "target-size",
     .kind = LB_OPT_SIZE,
     .arg = "SIZE",
     .min = 1,
     .help = "the same for files of at most this size",
     .off = offsetof(quantize_opts, target_bytes)},
    {.name = "pure",
     .kind = LB_OPT_FLAG,
     .help = "the type itself for all matrices, without the recipe's exceptions",
     .off = offsetof(quantize_opts, pure)},
    {.name = "protect",
     .kind = LB_OPT_FLAG,
     .help = "embeddings, head and routers keep 6 bit and more, whatever the recipe",
     .off = offsetof(quantize_opts, protect)},
    {.name = "refine",
     .kind = LB_OPT_FLAG,
     .help = "less error in the same format, in more time: codes and scales are chosen again, and "
             "taken where a block's error is smaller",
     .off = offsetof(quantize_opts, refine)},
    {.name = "imatrix",
     .kind = LB_OPT_PATH,
     .arg = "FILE",
     .help = "importance matrix (GGUF or .dat) of this model: errors are weighted by it",
     .off = offsetof(quantize_opts, imatrix)},
    {.name = "include-weights",
     .kind = LB_OPT_STR,
     .arg = "NAME",
     .repeatable = true,
     .help = "importance for tensors only whose names hold this",
     .off = offsetof(quantize_opts, include)},
    {.name = "exclude-weights",
     .kind = LB_OPT_STR,
     .arg = "NAME",
     .repeatable = true,
     .help = "no importance for tensors whose names hold this",
     .off = offsetof(quantize_opts, exclude)},
    {.name = "output-tensor-type",
     .kind = LB_OPT_STR,
     .arg = "TYPE",
     .help = "type of output.weight (or of the embedding that stands for it)",
     .off = offsetof(quantize_opts, output_type)},
    {.name = "token-embedding-type",
     .kind = LB_OPT_STR,
     .arg = "TYPE",
     .help = "type of the token embedding",
     .off = offsetof(quantize_opts, embedding_type)},
    {.name = "leave-output-tensor",
     .kind = LB_OPT_FLAG,
     .help = "output.weight stays as it is",
     .off = offsetof(quantize_opts, keep_output)},
    {.name = "tensor-type",
     .kind = LB_OPT_STR,
     .arg = "REGEX=TYPE",
     .repeatable = true,
     .help =
         "--override as llama-quantize reads it: capitals of the pattern count as small letters",
     .off = offsetof(quantize_opts, tensor_types)},
    {.name = "tensor-type-file",
     .kind = LB_OPT_PATH,
     .arg = "FILE",
     .help = "such overrides, between blanks or lines",
     .off = offsetof(quantize_opts, tensor_type_file)},
    {.name = "prune-layers",
     .kind = LB_OPT_STR,
     .arg = "N,N...",
     .help = "leave these layers out, counted from 0, and number the others anew",
     .off = offsetof(quantize_opts, prune)},
    {.name = "keep-split",
     .kind = LB_OPT_FLAG,
     .help = "a GGUF in parts becomes parts with the same tensors in each",
     .off = offsetof(quantize_opts, keep_split)},
    {.name = "max-buffer-size",
     .kind = LB_OPT_INT,
     .arg = "MIB",
     .min = 1,
     .max = INT32_MAX,
     .hidden = true,
     .help = "of llama-quantize: --memory rules here",
     .off = offsetof(quantize_opts, max_buffer)},
    {.name = "allow-requantize",
     .kind = LB_OPT_FLAG,
     .hidden = true,
     .help = "allowed anyway, with a warning",
     .off = offsetof(quantize_opts, requantize)},
    {.name = "set",
     .kind = LB_OPT_STR,
     .arg = "KEY=TYPE:VALUE",
     .repeatable = true,
     .help = "set a key of GGUF metadata, as convert does",
     .off = offsetof(quantize_opts, set)},
    {.name = "override-kv",
     .kind = LB_OPT_STR,
     .arg = "KEY=TYPE:VALUE",
     .repeatable = true,
     .help = "--set as llama-quantize has it: TYPE is int (a u32), float, bool or str, and the key "
             "goes to the end",
     .off = offsetof(quantize_opts, override_kv)},
    {.name = "unset",
     .kind = LB_OPT_STR,
     .arg = "KEY",
     .repeatable = true,
     .help = "remove a key of GGUF metadata",
     .off = offsetof(quantize_opts, unset)},
    {.name = "chat-template",
     .kind = LB_OPT_PATH,
     .arg = "FILE",
     .help = "replace the chat template by this file's text",
     .off = offsetof(quantize_opts, chat_template)},
    {.name = "vision",
     .kind = LB_OPT_ENUM,
     .arg = "auto|drop|keep",
     .initial = "auto",
     .help = "towers for images, videos and sound beside the language model",
     .off = offsetof(quantize_opts, vision)},
    {.name = "mtp",
     .kind = LB_OPT_ENUM,
     .arg = "auto|drop|keep",
     .initial = "auto",
     .help = "layers of multi-token prediction",
     .off = offsetof(quantize_opts, mtp)},
};

static lb_status run_quantize(lb_cli *cli, const void *opts, const char *const *args, u32 n_args,
                              lb_err *err) {
    quantize_opts o = *(const quantize_opts *)opts;
    if (o.target_bpw < 0)
        return lb_fail(err, LB_E_USAGE, "--target-bpw: bits a value are more than 0");
    static const u32 groups[] = {0, 32, 64, 128, 0, 0};
    static const lb_quant_size sizes[] = {LB_SIZE_AUTO,   LB_SIZE_GROUPS,  LB_SIZE_GROUPS,
                                          LB_SIZE_GROUPS, LB_SIZE_CHANNEL, LB_SIZE_TENSOR};
    (void)n_args;
    lb_quantize_opts q = {.size = sizes[o.group],
                          .group = groups[o.group],
                          .sym = o.sym,
                          .asym = o.asym,
                          .cpu_rule = o.mlx_rule == 1,
                          .refine = o.refine,
                          .target_bpw = o.target_bpw,
                          .target_bytes = o.target_bytes,
                          .type = o.type,
                          .overrides = o.overrides.item,
                          .n_overrides = o.overrides.n,
                          .rules = o.rules,
                          .tensor_types = o.tensor_types.item,
                          .n_tensor_types = o.tensor_types.n,
                          .tensor_type_file = o.tensor_type_file,
                          .output_type = o.output_type,
                          .embedding_type = o.embedding_type,
                          .keep_output = o.keep_output,
                          .pure = o.pure,
                          .protect = o.protect,
                          .imatrix = o.imatrix,
                          .keep_split = o.keep_split,
                          .max_buffer = o.max_buffer != 0,
                          .prune = o.prune,
                          .override_kv = o.override_kv.item,
                          .n_override_kv = o.override_kv.n,
                          .include = o.include.item,
                          .n_include = o.include.n,
                          .exclude = o.exclude.item,
                          .n_exclude = o.exclude.n};
    lb_convert_opts c = {.verb = "quantize",
                         .quantize = &q,
                         .set = o.set.item,
                         .n_set = o.set.n,
                         .unset = o.unset.item,
                         .n_unset = o.unset.n,
                         .chat_template = o.chat_template};
    c.keep[LB_EXTRA_VISION] = c.keep[LB_EXTRA_AUDIO] = (u8)o.vision;
    c.keep[LB_EXTRA_MTP] = (u8)o.mtp;
    return lb_cli_convert(cli, &o.writing, &o.common, args[0], &c, err);
}

const lb_command lb_cmd_quantize = {
    .name = "quantize",
    .summary = "Quantizes a model of any format in one streamed pass.",
    .args = "MODEL -o OUT --type TYPE",
    .examples = {{"a Hugging Face folder to a 4-bit GGUF, without a file between",
                  "lbrx quantize model/ -o model-q4_k_m.gguf --type q4_k_m"},
                 {"two files from one read",
                  "lbrx quantize model/ -o 'model-{type}.gguf' --type q4_k_m,q6_k"},
                 {"which tensor gets which type",
                  "lbrx quantize model/ -o model.gguf --type iq4_xs --dry-run"}},
    .details =
        "Types of GGUF are llama.cpp's: the bytes are those of llama-quantize, and so are the "
        "types that a recipe gives to each tensor, unless an option says otherwise. A tensor that "
        "has its type already keeps its codes; other quantized tensors are quantized again, with a "
        "warning.",
    .n_args_min = 1,
    .n_args_max = 1,
    .group = {LB_GROUP("Options", quantize_rows, 0),
              LB_GROUP_WRITE(offsetof(quantize_opts, writing)),
              LB_GROUP_COMMON(offsetof(quantize_opts, common))},
    .size_bytes = sizeof(quantize_opts),
    .run = run_quantize,
};
