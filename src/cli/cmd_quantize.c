/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_quantize.c: `lbrx quantize`: a conversion with ops/quantize.h's choice of types. */
#include "cli/convert.h"
#include "cli/typing.h"

typedef struct quantize_opts {
    lb_common common;
    lb_writing writing;
    lb_typing typing;
    const char *prune;
    bool keep_split;
    lb_opt_list set, unset, override_kv;
    const char *chat_template;
    u32 vision, mtp; /* lb_keep */
} quantize_opts;

static const lb_opt quantize_rows[] = {
    {.name = "prune-layers",
     .kind = LB_OPT_STR,
     .arg = "N,N...",
     .help = "leave these layers out, counted from 0, and number the others anew",
     .off = offsetof(quantize_opts, prune)},
    {.name = "keep-split",
     .kind = LB_OPT_FLAG,
     .help = "a GGUF in parts becomes parts with the same tensors in each",
     .off = offsetof(quantize_opts, keep_split)},
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
    lb_quantize_opts q;
    (void)n_args;
    LB_TRY(lb_typing_fill(&o.typing, &q, err));
    q.keep_split = o.keep_split;
    q.prune = o.prune;
    q.override_kv = o.override_kv.item;
    q.n_override_kv = o.override_kv.n;
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
        "warning. With --device cuda the searches of the K- and IQ-quants, and MLX's groups, "
        "run on a GPU; the bytes "
        "are the same.",
    .n_args_min = 1,
    .n_args_max = 1,
    .group = {LB_GROUP_TYPING(offsetof(quantize_opts, typing)),
              LB_GROUP("Other options", quantize_rows, 0),
              LB_GROUP_WRITE(offsetof(quantize_opts, writing)),
              LB_GROUP_COMMON(offsetof(quantize_opts, common))},
    .size_bytes = sizeof(quantize_opts),
    .run = run_quantize,
};
