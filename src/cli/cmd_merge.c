/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_merge.c: `lbrx merge`: a merge file, converted and quantized like any model. */
#include "cli/convert.h"
#include "cli/typing.h"
#include "cli/merge_methods.h"
#include "base/os.h"
#include "ops/merge.h"

typedef struct merge_opts {
    lb_common common;
    lb_writing writing;
    lb_typing typing;
    u64 seed;
    u32 rounding; /* f32|mergekit */
    u32 dtype;    /* keep|f32|f16|bf16 */
    bool methods, raw, unite, intersect;
    const char *intermediate; /* folder */
} merge_opts;

static const lb_opt merge_rows[] = {
    {.name = "seed",
     .kind = LB_OPT_INT,
     .arg = "N",
     .initial = "0",
     .help = "of the random draws, which are then mergekit's",
     .off = offsetof(merge_opts, seed)},
    {.name = "rounding",
     .kind = LB_OPT_ENUM,
     .arg = "f32|mergekit",
     .initial = "f32",
     .help = "f32: sums in f32, rounded once; mergekit: every step rounded as mergekit rounds it",
     .off = offsetof(merge_opts, rounding)},
    {.name = "dtype",
     .kind = LB_OPT_ENUM,
     .arg = "keep|f32|f16|bf16",
     .initial = "keep",
     .help = "type of the weights; keep: what the merge file says",
     .off = offsetof(merge_opts, dtype)},
    {.name = "keep-intermediate",
     .kind = LB_OPT_PATH,
     .arg = "DIR",
     .help = "of a file with several documents: also write each named one, as DIR/NAME",
     .off = offsetof(merge_opts, intermediate)},
    {.name = "raw",
     .kind = LB_OPT_FLAG,
     .help = "a file of mergekit-pytorch: models are any tensors (.safetensors, .pt, folders), "
             "paired by name alone",
     .off = offsetof(merge_opts, raw)},
    {.name = "tensor-union",
     .short_name = 'u',
     .kind = LB_OPT_FLAG,
     .help = "with --raw: also tensors that some models lack",
     .off = offsetof(merge_opts, unite)},
    {.name = "tensor-intersection",
     .short_name = 'i',
     .kind = LB_OPT_FLAG,
     .help = "with --raw: only tensors that all models have",
     .off = offsetof(merge_opts, intersect)},
    {.name = "methods",
     .kind = LB_OPT_FLAG,
     .help = "list the merge methods and their parameters (with --json as an array), and nothing "
             "else",
     .off = offsetof(merge_opts, methods)},
};

/* The named merges that the last one is made of, as folders of their own: of their sources, as the
 * last one is. */
static lb_status write_intermediate(lb_cli *cli, const merge_opts *o, const lb_merge_opts *merge,
                                    const char *file, lb_err *err) {
    lb_str *names;
    u32 n;
    LB_TRY(lb_merge_names(file, &cli->arena, &names, &n, err));
    if (n == 0)
        return lb_fail(err, LB_E_USAGE,
                       "--keep-intermediate: %s has no named document before its last one", file);
    if (!o->writing.dry_run)
        LB_TRY(lb_os_mkdir(o->intermediate, true, err));
    for (u32 i = 0; i < n; i++) {
        merge_opts own = *o;
        lb_merge_opts m = *merge;
        lb_convert_opts c = {.verb = "merge", .merge = &m};
        if (!lb_str_is_file_name(names[i]))
            return lb_fail(err, LB_E_FORMAT,
                           "%s: --keep-intermediate: the name '%.*s' is no plain name of a folder",
                           file, LB_FMT(names[i]));
        m.named = lb_arena_str(&cli->arena, names[i]).ptr;
        own.writing.output = lb_os_join(&cli->arena, o->intermediate, names[i]);
        own.writing.to = 0;
        own.common.json = false;
        if (!m.named || !own.writing.output)
            return lb_fail(err, LB_E_NOMEM, "out of memory for names");
        LB_TRY(lb_cli_convert(cli, &own.writing, &own.common, file, &c, err));
    }
    return LB_OK;
}

static lb_status run_merge(lb_cli *cli, const void *opts, const char *const *args, u32 n_args,
                           lb_err *err) {
    static const lb_dtype dtypes[] = {LB_F32, LB_F32, LB_F16, LB_BF16};
    merge_opts o = *(const merge_opts *)opts;
    if (o.methods && n_args == 0) {
        lb_cli_merge_methods(&cli->out, o.common.json);
        return LB_OK;
    }
    if (n_args == 0 || o.methods)
        return lb_fail(err, LB_E_USAGE,
                       n_args ? "--methods lists the methods: it takes no merge file"
                              : "merge needs a merge file (CONFIG.yml)");
    lb_merge_opts m = {.rounding = o.rounding ? LB_MERGE_MERGEKIT : LB_MERGE_F32,
                       .seed = o.seed,
                       .raw = o.raw,
                       .unite = o.unite,
                       .intersect = o.intersect};
    if ((o.unite || o.intersect) && (!o.raw || (o.unite && o.intersect)))
        return lb_fail(err, LB_E_USAGE,
                       "--tensor-union and --tensor-intersection exclude each other and belong to "
                       "--raw");
    if (o.intermediate && o.raw)
        return lb_fail(err, LB_E_USAGE,
                       "--raw: such files are one document: there is nothing to "
                       "keep between");
    lb_quantize_opts q;
    LB_TRY(lb_typing_fill(&o.typing, &q, err));
    m.keep = q.keep;
    lb_str given = lb_merge_opts_text(&m, &cli->arena);
    if (!given.ptr)
        return lb_fail(err, LB_E_NOMEM, "out of memory");
    lb_convert_opts c = {.verb = "merge",
                         .verb_options = given.ptr,
                         .merge = &m,
                         .quantize = lb_typing_given(&o.typing) ? &q : NULL,
                         .cast = o.dtype != 0,
                         .dtype = dtypes[o.dtype]};
    if (lb_typing_given(&o.typing) && o.dtype)
        return lb_fail(err, LB_E_USAGE, "--type and --dtype exclude each other");
    if (o.intermediate)
        LB_TRY(write_intermediate(cli, &o, &m, args[0], err));
    return lb_cli_convert(cli, &o.writing, &o.common, args[0], &c, err);
}

const lb_command lb_cmd_merge = {
    .name = "merge",
    .summary = "Merges models by a mergekit file, in one streamed pass.",
    .args = "CONFIG.yml -o OUT | --methods",
    .examples = {{"a folder, as mergekit writes it", "lbrx merge merge.yml -o merged/"},
                 {"straight to a quantized GGUF",
                  "lbrx merge merge.yml -o merged.gguf --type q4_k_m"},
                 {"what goes into each tensor", "lbrx merge merge.yml -o merged/ --dry-run"}},
    .details =
        "Models may be of any format, quantized ones too. A merge file is a MODEL for `convert`, "
        "`quantize`, `inspect`, `diff` and `verify` as well. The config comes from the base model, "
        "or else the first that the file "
        "names.",
    .n_args_min = 0,
    .n_args_max = 1,
    .group = {LB_GROUP("Options", merge_rows, 0), LB_GROUP_TYPING(offsetof(merge_opts, typing)),
              LB_GROUP_WRITE(offsetof(merge_opts, writing)),
              LB_GROUP_COMMON(offsetof(merge_opts, common))},
    .size_bytes = sizeof(merge_opts),
    .run = run_merge,
};
