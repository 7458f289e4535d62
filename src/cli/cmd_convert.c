/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_convert.c: `lbrx convert`, `split`, `join`: ops/convert.h for the command line. */
#include "cli/convert.h"

typedef struct convert_opts {
    lb_common common;
    lb_writing writing;
    u32 dtype; /* keep|f32|f16|bf16 */
    bool lossless;
    lb_opt_list set, unset;
    const char *chat_template;
    u32 vision, mtp; /* lb_keep */
    const char *base;
    u32 codes; /* lb_codes */
} convert_opts;

static const lb_opt convert_rows[] = {
    {.name = "dtype",
     .kind = LB_OPT_ENUM,
     .arg = "keep|f32|f16|bf16",
     .initial = "keep",
     .help = "type of the weights; keep: as they are, quantized ones become bf16 where the target "
             "cannot hold them",
     .off = offsetof(convert_opts, dtype)},
    {.name = "lossless",
     .kind = LB_OPT_FLAG,
     .help = "refuse when any value would have to be rounded",
     .off = offsetof(convert_opts, lossless)},
    {.name = "set",
     .kind = LB_OPT_STR,
     .arg = "KEY=TYPE:VALUE",
     .repeatable = true,
     .help =
         "set a key of GGUF metadata; TYPE: str|bool|u8..u64|i8..i64|f32|f64; with [] behind it "
         "an array: 'x=i32[]:[1, 2]'",
     .off = offsetof(convert_opts, set)},
    {.name = "unset",
     .kind = LB_OPT_STR,
     .arg = "KEY",
     .repeatable = true,
     .help = "remove a key of GGUF metadata",
     .off = offsetof(convert_opts, unset)},
    {.name = "chat-template",
     .kind = LB_OPT_PATH,
     .arg = "FILE",
     .help = "replace the chat template by this file's text",
     .off = offsetof(convert_opts, chat_template)},
    {.name = "vision",
     .kind = LB_OPT_ENUM,
     .arg = "auto|drop|keep",
     .initial = "auto",
     .help = "towers for images, videos and sound beside the language model; auto: kept where the "
             "target has a place for them",
     .off = offsetof(convert_opts, vision)},
    {.name = "codes",
     .kind = LB_OPT_ENUM,
     .arg = "exact|near|none",
     .initial = "exact",
     .help =
         "codes of quantized tensors between GGUF and MLX: kept where their scales stay what they "
         "are; kept with scales rounded to f16; turned into values",
     .off = offsetof(convert_opts, codes)},
    {.name = "base",
     .kind = LB_OPT_PATH,
     .arg = "MODEL",
     .help =
         "of an adapter (LoRA) on its way to or from GGUF: the model that it belongs to; what the "
         "adapter names unless given",
     .off = offsetof(convert_opts, base)},
    {.name = "mtp",
     .kind = LB_OPT_ENUM,
     .arg = "auto|drop|keep",
     .initial = "auto",
     .help = "layers of multi-token prediction; auto: as the target's own tools do, kept in GGUF "
             "and HF, dropped in MLX",
     .off = offsetof(convert_opts, mtp)},
};

static lb_status convert(lb_cli *cli, convert_opts *o, const char *model,
                         const lb_convert_opts *base, lb_err *err) {
    static const lb_dtype dtypes[] = {LB_F32, LB_F32, LB_F16, LB_BF16};
    lb_convert_opts c = *base;
    c.w.lossless = o->lossless;
    c.cast = o->dtype != 0;
    c.dtype = dtypes[o->dtype];
    c.set = o->set.item;
    c.n_set = o->set.n;
    c.unset = o->unset.item;
    c.n_unset = o->unset.n;
    c.chat_template = o->chat_template;
    c.base = o->base;
    c.codes = (lb_codes)o->codes;
    c.keep[LB_EXTRA_VISION] = c.keep[LB_EXTRA_AUDIO] = (u8)o->vision;
    c.keep[LB_EXTRA_MTP] = (u8)o->mtp;
    return lb_cli_convert(cli, &o->writing, &o->common, model, &c, err);
}

static lb_status run_convert(lb_cli *cli, const void *opts, const char *const *args, u32 n_args,
                             lb_err *err) {
    convert_opts o = *(const convert_opts *)opts;
    (void)n_args;
    return convert(cli, &o, args[0], &(lb_convert_opts){.verb = "convert"}, err);
}

const lb_command lb_cmd_convert = {
    .name = "convert",
    .summary = "Converts a model between Hugging Face, MLX and GGUF, in one streamed pass.",
    .args = "MODEL -o OUT",
    .examples = {{"a Hugging Face folder to GGUF", "lbrx convert model/ -o model.gguf"},
                 {"a GGUF file back to a folder in bf16",
                  "lbrx convert model.gguf -o model/ --to hf"},
                 {"to MLX, looking at the plan first",
                  "lbrx convert model/ -o model-mlx/ --to mlx --dry-run"}},
    .details =
        "Quantized tensors are dequantized where the target cannot hold them, rounded once; the "
        "report says how "
        "many values were rounded. A partial result stands beside the output until it is "
        "complete.\n\n"
        "A LoRA adapter is converted like a model: PEFT's folder is hf, mlx-lm's is mlx. GGUF has "
        "the "
        "base model's names and rows: --base names it, its config.json is enough.",
    .n_args_min = 1,
    .n_args_max = 1,
    .group = {LB_GROUP("Options", convert_rows, 0), LB_GROUP_WRITE(offsetof(convert_opts, writing)),
              LB_GROUP_COMMON(offsetof(convert_opts, common))},
    .size_bytes = sizeof(convert_opts),
    .run = run_convert,
};

typedef struct split_opts {
    lb_common common;
    lb_writing writing;
} split_opts;

static lb_status recut(lb_cli *cli, const void *opts, const char *model, const char *verb,
                       lb_err *err) {
    const split_opts *s = opts;
    convert_opts o = {.common = s->common, .writing = s->writing};
    bool split = strcmp(verb, "split") == 0;
    if (split && o.writing.max_shard_bytes == 0 && o.writing.max_shard_tensors == 0)
        return lb_fail(err, LB_E_USAGE,
                       "split: how large may a file be? Name it with --max-shard-size SIZE or "
                       "--max-shard-tensors N");
    if (!split) {
        if (o.writing.max_shard_bytes || o.writing.max_shard_tensors)
            return lb_fail(err, LB_E_USAGE,
                           "join makes one file: --max-shard-size belongs to split");
        o.writing.max_shard_bytes = UINT64_MAX;
    }
    return convert(cli, &o, model, &(lb_convert_opts){.verb = verb}, err);
}

static lb_status run_split(lb_cli *cli, const void *opts, const char *const *args, u32 n_args,
                           lb_err *err) {
    (void)n_args;
    return recut(cli, opts, args[0], "split", err);
}

static lb_status run_join(lb_cli *cli, const void *opts, const char *const *args, u32 n_args,
                          lb_err *err) {
    (void)n_args;
    return recut(cli, opts, args[0], "join", err);
}

const lb_command lb_cmd_split = {
    .name = "split",
    .summary = "Cuts a model's weights into files of a given size.",
    .args = "MODEL -o OUT --max-shard-size SIZE",
    .examples = {{"a GGUF file into parts of 2 GB",
                  "lbrx split model.gguf -o parts.gguf --max-shard-size 2GB"},
                 {"a folder into smaller shards",
                  "lbrx split model/ -o small/ --max-shard-size 500MB"},
                 {"what it would write",
                  "lbrx split model.gguf -o parts.gguf --max-shard-size 2GB --dry-run"}},
    .n_args_min = 1,
    .n_args_max = 1,
    .group = {LB_GROUP_WRITE(offsetof(split_opts, writing)),
              LB_GROUP_COMMON(offsetof(split_opts, common))},
    .size_bytes = sizeof(split_opts),
    .run = run_split,
};

const lb_command lb_cmd_join = {
    .name = "join",
    .summary = "Joins the files of a split model into one.",
    .args = "MODEL -o OUT",
    .examples = {{"the parts of a GGUF model", "lbrx join parts-00001-of-00004.gguf -o model.gguf"},
                 {"a sharded folder", "lbrx join model/ -o one-shard/"},
                 {"what it would write", "lbrx join model/ -o one-shard/ --dry-run"}},
    .n_args_min = 1,
    .n_args_max = 1,
    .group = {LB_GROUP_WRITE(offsetof(split_opts, writing)),
              LB_GROUP_COMMON(offsetof(split_opts, common))},
    .size_bytes = sizeof(split_opts),
    .run = run_join,
};
