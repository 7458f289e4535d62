/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_transplant.c: `lbrx transplant`: a model with the tokenizer of another. */
#include "cli/convert.h"
#include "cli/typing.h"
#include "ops/transplant.h"

typedef struct graft_opts {
    lb_common common;
    lb_writing writing;
    lb_typing typing;
    u32 method, weighing, subword, prefix, byte; /* indices into the choices */
    u64 k, seed;
    double noise, scale;
    bool cosine, no_cosine, magikarp, no_magikarp;
    const char **batch_size;
    u32 dtype; /* keep|f32|f16|bf16 */
} graft_opts;

#define ALLOW "no|yes|embed|lm_head"

static const lb_opt graft_rows[] = {
    {.name = "approximation-method",
     .short_name = 'a',
     .kind = LB_OPT_ENUM,
     .arg = "omp|common_interpolation|subword|mean|zero|randn|john_hewitt|landmark_pca|stb|mp_rope",
     .initial = "omp",
     .help = "how tokens that the model does not have get a row",
     .off = offsetof(graft_opts, method)},
    {.name = "k",
     .short_name = 'k',
     .kind = LB_OPT_INT,
     .arg = "N",
     .initial = "64",
     .min = 1,
     .max = 65536,
     .help = "shared tokens that a row is made of (omp, common_interpolation, stb, mp_rope)",
     .off = offsetof(graft_opts, k)},
    {.name = "cosine-similarity",
     .short_name = 'c',
     .kind = LB_OPT_FLAG,
     .help = "common_interpolation: the nearest by the angle, not by the distance",
     .off = offsetof(graft_opts, cosine)},
    {.name = "no-cosine-similarity",
     .kind = LB_OPT_FLAG,
     .help = "by the distance",
     .hidden = true,
     .off = offsetof(graft_opts, no_cosine)},
    {.name = "weight-scheme",
     .short_name = 'w',
     .kind = LB_OPT_ENUM,
     .arg = "distance_proportional|barycentric|least_squares",
     .initial = "distance_proportional",
     .help = "common_interpolation: weights of the neighbours",
     .off = offsetof(graft_opts, weighing)},
    {.name = "subword-method",
     .short_name = 's',
     .kind = LB_OPT_ENUM,
     .arg = "mean|sum|weighted_mean|first_last",
     .initial = "mean",
     .help = "subword: how the parts of a token are put together",
     .off = offsetof(graft_opts, subword)},
    {.name = "prefix-match",
     .kind = LB_OPT_ENUM,
     .arg = ALLOW,
     .initial = "no",
     .help = "a token takes the row of its longest prefix that the model has: in which matrices",
     .off = offsetof(graft_opts, prefix)},
    {.name = "byte-match",
     .kind = LB_OPT_ENUM,
     .arg = ALLOW,
     .initial = "no",
     .help = "`<0x41>` and `A` take each other's row: in which matrices",
     .off = offsetof(graft_opts, byte)},
    {.name = "magikarp",
     .kind = LB_OPT_FLAG,
     .help = "leave out tokens that were hardly trained: rows of zeros, and no landmarks",
     .off = offsetof(graft_opts, magikarp)},
    {.name = "no-magikarp",
     .kind = LB_OPT_FLAG,
     .help = "keep them",
     .hidden = true,
     .off = offsetof(graft_opts, no_magikarp)},
    {.name = "new-vocab-noise",
     .kind = LB_OPT_FLOAT,
     .arg = "X",
     .help = "add normal noise of that deviation to rows that were approximated",
     .off = offsetof(graft_opts, noise)},
    {.name = "nvn", .kind = LB_OPT_FLOAT, .alias_of = "new-vocab-noise", .hidden = true},
    {.name = "new-vocab-scale",
     .kind = LB_OPT_FLOAT,
     .arg = "X",
     .help = "multiply rows that were approximated by X",
     .off = offsetof(graft_opts, scale)},
    {.name = "nvs", .kind = LB_OPT_FLOAT, .alias_of = "new-vocab-scale", .hidden = true},
    {.name = "seed",
     .kind = LB_OPT_INT,
     .arg = "N",
     .initial = "0",
     .help = "of randn, john_hewitt and the noise",
     .off = offsetof(graft_opts, seed)},
    {.name = "random-seed", .kind = LB_OPT_INT, .alias_of = "seed", .hidden = true},
    {.name = "batch-size",
     .kind = LB_OPT_STR,
     .arg = "N",
     .help = "taken for mergekit's sake; --memory decides, and no result depends on it",
     .off = offsetof(graft_opts, batch_size)},
    {.name = "dtype",
     .kind = LB_OPT_ENUM,
     .arg = "keep|f32|f16|bf16",
     .initial = "keep",
     .help = "type of the weights; keep: the model's",
     .off = offsetof(graft_opts, dtype)},
};

typedef struct opening {
    const char *donor;
    lb_transplant_opts opts;
} opening;

static lb_status open_transplant(const void *user, const char *model, lb_source **out,
                                 lb_err *err) {
    const opening *x = user;
    return lb_transplant_open(out, model, x->donor, &x->opts, err);
}

static lb_status run_transplant(lb_cli *cli, const void *opts, const char *const *args, u32 n_args,
                                lb_err *err) {
    static const lb_dtype dtypes[] = {LB_F32, LB_F32, LB_F16, LB_BF16};
    graft_opts o = *(const graft_opts *)opts;
    (void)n_args;
    opening x = {.donor = args[1],
                 .opts = {.method = (lb_approx)o.method,
                          .k = o.k,
                          .weighing = (lb_weighing)o.weighing,
                          .subword = (lb_subword)o.subword,
                          .cosine = o.cosine,
                          .prefix = (lb_allow)o.prefix,
                          .byte = (lb_allow)o.byte,
                          .magikarp = o.magikarp,
                          .noise = o.noise,
                          .scale = o.scale,
                          .seed = o.seed}};
    lb_quantize_opts q;
    LB_TRY(lb_typing_fill(&o.typing, &q, err));
    lb_str given = lb_transplant_text(&x.opts, &cli->arena);
    if (!given.ptr)
        return lb_fail(err, LB_E_NOMEM, "out of memory");
    lb_cli_opened from = {open_transplant, &x, args[0]};
    lb_convert_opts c = {.verb = "transplant",
                         .verb_options = given.ptr,
                         .quantize = lb_typing_given(&o.typing) ? &q : NULL,
                         .cast = o.dtype != 0,
                         .dtype = dtypes[o.dtype]};
    if (lb_typing_given(&o.typing) && o.dtype)
        return lb_fail(err, LB_E_USAGE, "--type and --dtype exclude each other");
    if ((o.cosine && o.no_cosine) || (o.magikarp && o.no_magikarp))
        return lb_fail(err, LB_E_USAGE, "--%s and --no-%s exclude each other",
                       o.cosine && o.no_cosine ? "cosine-similarity" : "magikarp",
                       o.cosine && o.no_cosine ? "cosine-similarity" : "magikarp");
    return lb_cli_convert_opened(cli, &o.writing, &o.common, &from, &c, err);
}

const lb_command lb_cmd_transplant = {
    .name = "transplant",
    .summary = "Gives a model the tokenizer of another one.",
    .args = "MODEL DONOR -o OUT",
    .examples = {{"a model with a larger vocabulary", "lbrx transplant model/ donor/ -o out/"},
                 {"new tokens as what the old tokenizer makes of them",
                  "lbrx transplant model/ donor/ -o out/ -a subword"},
                 {"straight to a quantized GGUF",
                  "lbrx transplant model/ donor/ -o out.gguf --type q4_k_m"}},
    .details =
        "Tokens that both have keep the model's rows; the others are approximated from the "
        "donor's embeddings. Options, defaults and results are those of mergekit-tokensurgeon "
        "0.1.5 but for what docs/transplant.md lists.",
    .n_args_min = 2,
    .n_args_max = 2,
    .group = {LB_GROUP("Options", graft_rows, 0), LB_GROUP_TYPING(offsetof(graft_opts, typing)),
              LB_GROUP_WRITE(offsetof(graft_opts, writing)),
              LB_GROUP_COMMON(offsetof(graft_opts, common))},
    .size_bytes = sizeof(graft_opts),
    .run = run_transplant,
};
