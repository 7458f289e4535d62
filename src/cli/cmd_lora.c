/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_lora.c: `lbrx lora fuse`, `lora convert`: adapters put into a model; adapters in other forms.
 */
#include "cli/convert.h"
#include "cli/typing.h"
#include "ops/lora.h"
#include "ops/open.h"
#include <math.h>
#include <stdlib.h>

static const lb_dtype dtypes[] = {LB_F32, LB_F32, LB_F16, LB_BF16};

/* ---- fuse ---- */

typedef struct fuse_opts {
    lb_common common;
    lb_writing writing;
    lb_typing typing;
    const char *scale;
    u32 dtype; /* keep|f32|f16|bf16 */
} fuse_opts;

static const lb_opt fuse_rows[] = {
    {.name = "scale",
     .kind = LB_OPT_STR,
     .arg = "S[,S...]",
     .help = "factor for the scale of each adapter, or one for all of them",
     .off = offsetof(fuse_opts, scale)},
    {.name = "dtype",
     .kind = LB_OPT_ENUM,
     .arg = "keep|f32|f16|bf16",
     .initial = "keep",
     .help = "type of the weights; keep: that of the base model; quantized ones become bf16",
     .off = offsetof(fuse_opts, dtype)},
};

typedef struct fused {
    const char *const *adapters;
    u32 n;
    double scale[LB_LORA_MAX];
} fused;

static lb_status read_scales(const char *text, fused *f, lb_err *err) {
    u32 k = 0;
    for (u32 i = 0; i < f->n; i++)
        f->scale[i] = 1;
    for (const char *p = text; p; k++) {
        char *end;
        double v = strtod(p, &end);
        if (end == p || (*end && *end != ',') || !isfinite(v))
            return lb_fail(err, LB_E_USAGE, "--scale: '%s' is no number", p);
        if (k < f->n)
            f->scale[k] = v;
        p = *end ? end + 1 : NULL;
    }
    if (k > 1 && k != f->n)
        return lb_fail(err, LB_E_USAGE, "--scale has %u numbers for %u adapters", k, f->n);
    for (u32 i = 1; k == 1 && i < f->n; i++)
        f->scale[i] = f->scale[0];
    return LB_OK;
}

static lb_status open_fused(const void *user, const char *model, lb_source **out, lb_err *err) {
    const fused *f = user;
    return lb_open_lora(out, model, f->adapters, f->scale, f->n, err);
}

static lb_status run_fuse(lb_cli *cli, const void *opts, const char *const *args, u32 n_args,
                          lb_err *err) {
    fuse_opts o = *(const fuse_opts *)opts;
    fused f = {.adapters = args + 1, .n = n_args - 1};
    lb_quantize_opts q;
    LB_TRY(lb_typing_fill(&o.typing, &q, err));
    lb_str verb = LB_STR("lora fuse");
    if (lb_typing_given(&o.typing) && o.dtype)
        return lb_fail(err, LB_E_USAGE, "--type and --dtype exclude each other");
    if (f.n > LB_LORA_MAX)
        return lb_fail(err, LB_E_USAGE, "more than %d adapters", LB_LORA_MAX);
    LB_TRY(read_scales(o.scale, &f, err));
    if (o.scale)
        verb = lb_arena_printf(&cli->arena, "lora fuse --scale %s", o.scale);
    if (!verb.ptr)
        return lb_fail(err, LB_E_NOMEM, "out of memory for the command");
    lb_convert_opts c = {.verb = verb.ptr,
                         .quantize = lb_typing_given(&o.typing) ? &q : NULL,
                         .cast = o.dtype != 0,
                         .dtype = dtypes[o.dtype]};
    LB_TRY(lb_common_finish(&o.common, err));
    for (u32 i = 0; i < n_args && !o.writing.dry_run; i++)
        LB_TRY(lb_cli_fetch_missing(&o.common, args[i], err));
    lb_cli_opened from = {open_fused, &f, args[0]};
    return lb_cli_convert_opened(cli, &o.writing, &o.common, &from, &c, err);
}

const lb_command lb_cmd_lora_fuse = {
    .name = "lora fuse",
    .summary = "Puts adapters (LoRA) into a model, in one streamed pass.",
    .args = "MODEL ADAPTER... -o OUT",
    .examples = {{"a model with an adapter", "lbrx lora fuse model/ adapter/ -o fused/"},
                 {"straight to a quantized GGUF",
                  "lbrx lora fuse model/ adapter/ -o fused.gguf --type q4_k_m"},
                 {"two adapters, the second at half its strength",
                  "lbrx lora fuse model/ one/ two/ -o fused/ --scale 1,0.5"}},
    .details =
        "Adapters are PEFT's and mlx-lm's folders and GGUF files, models of any format, quantized "
        "ones too. Each matrix is W + scale B A in f32, rounded once. MODEL+ADAPTER is the same "
        "model wherever a model is computed: convert, quantize, merge files, inspect, diff, "
        "verify.",
    .n_args_min = 2,
    .n_args_max = LB_LORA_MAX + 1,
    .group = {LB_GROUP("Options", fuse_rows, 0), LB_GROUP_TYPING(offsetof(fuse_opts, typing)),
              LB_GROUP_WRITE(offsetof(fuse_opts, writing)),
              LB_GROUP_COMMON(offsetof(fuse_opts, common))},
    .size_bytes = sizeof(fuse_opts),
    .run = run_fuse,
};

/* ---- convert ---- */

typedef struct form_opts {
    lb_common common;
    lb_writing writing;
    const char *base;
    u32 dtype; /* keep|f32|f16|bf16 */
} form_opts;

static const lb_opt form_rows[] = {
    {.name = "base",
     .kind = LB_OPT_PATH,
     .arg = "MODEL",
     .help = "the model that the adapter belongs to (its config is enough), for names and rows in "
             "GGUF; what the adapter names unless given",
     .off = offsetof(form_opts, base)},
    {.name = "dtype",
     .kind = LB_OPT_ENUM,
     .arg = "keep|f32|f16|bf16",
     .initial = "keep",
     .help = "type of the matrices",
     .off = offsetof(form_opts, dtype)},
};

static lb_status run_form(lb_cli *cli, const void *opts, const char *const *args, u32 n_args,
                          lb_err *err) {
    form_opts o = *(const form_opts *)opts;
    (void)n_args;
    lb_convert_opts c = {.verb = "lora convert",
                         .adapter = true,
                         .base = o.base,
                         .cast = o.dtype != 0,
                         .dtype = dtypes[o.dtype]};
    return lb_cli_convert(cli, &o.writing, &o.common, args[0], &c, err);
}

const lb_command lb_cmd_lora_convert = {
    .name = "lora convert",
    .summary = "Converts an adapter (LoRA) between PEFT, MLX and GGUF.",
    .args = "ADAPTER -o OUT",
    .examples = {{"a folder of PEFT to GGUF",
                  "lbrx lora convert adapter/ -o adapter.gguf --base model/"},
                 {"a GGUF adapter back to a folder of PEFT",
                  "lbrx lora convert adapter.gguf -o adapter/ --to hf --base model/"},
                 {"to a folder of mlx-lm", "lbrx lora convert adapter/ -o adapter-mlx/ --to mlx"}},
    .details = "`lbrx convert` of an adapter is the same. What a form has no place for is refused "
               "by name; nothing is left out unsaid.",
    .n_args_min = 1,
    .n_args_max = 1,
    .group = {LB_GROUP("Options", form_rows, 0), LB_GROUP_WRITE(offsetof(form_opts, writing)),
              LB_GROUP_COMMON(offsetof(form_opts, common))},
    .size_bytes = sizeof(form_opts),
    .run = run_form,
};
