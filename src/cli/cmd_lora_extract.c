/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_lora_extract.c: `lbrx lora extract`: the difference of two models as an adapter. */
#include "cli/convert.h"
#include "ops/extract.h"

typedef struct extract_opts {
    lb_common common;
    lb_writing writing;
    u64 rank, power, seed;
    double energy, epsilon;
    bool exact, plain, embed, skip;
    lb_opt_list save, include, exclude;
    u32 dtype; /* f32|f16|bf16 */
} extract_opts;

static const lb_opt extract_rows[] = {
    {.name = "rank",
     .kind = LB_OPT_INT,
     .arg = "N",
     .initial = "64",
     .help = "rank of each matrix, at most",
     .min = 1,
     .max = 65536,
     .off = offsetof(extract_opts, rank)},
    {.name = "max-rank",
     .kind = LB_OPT_INT,
     .alias_of = "rank",
     .hidden = true,
     .off = offsetof(extract_opts, rank)},
    {.name = "energy",
     .kind = LB_OPT_FLOAT,
     .arg = "X",
     .initial = "0",
     .help = "of each matrix the smallest rank, up to --rank, that has this part of the sum of "
             "squares (0.99); 0: --rank",
     .off = offsetof(extract_opts, energy)},
    {.name = "exact",
     .kind = LB_OPT_FLAG,
     .help = "the best factors there are, from eigenvectors of the Gram matrix: slow",
     .off = offsetof(extract_opts, exact)},
    {.name = "power",
     .kind = LB_OPT_INT,
     .arg = "N",
     .initial = "3",
     .help = "iterations of the randomised way: each reads the models twice more",
     .min = 1,
     .max = 64,
     .off = offsetof(extract_opts, power)},
    {.name = "seed",
     .kind = LB_OPT_INT,
     .arg = "N",
     .initial = "0",
     .help = "of the randomised way",
     .off = offsetof(extract_opts, seed)},
    {.name = "no-distribute-scale",
     .kind = LB_OPT_FLAG,
     .help = "the singular values all in A; else their roots in A and in B",
     .off = offsetof(extract_opts, plain)},
    {.name = "embed-lora",
     .kind = LB_OPT_FLAG,
     .help = "factors of the embeddings and the output matrix too, which are saved whole else",
     .off = offsetof(extract_opts, embed)},
    {.name = "save-module",
     .kind = LB_OPT_STR,
     .arg = "NAME",
     .repeatable = true,
     .help = "saved whole: a module's name, or the last part of the names of several",
     .off = offsetof(extract_opts, save)},
    {.name = "include-regex",
     .kind = LB_OPT_STR,
     .arg = "PATTERN",
     .repeatable = true,
     .help = "only modules whose name has a match",
     .off = offsetof(extract_opts, include)},
    {.name = "exclude-regex",
     .kind = LB_OPT_STR,
     .arg = "PATTERN",
     .repeatable = true,
     .help = "no modules whose name has a match",
     .off = offsetof(extract_opts, exclude)},
    {.name = "sv-epsilon",
     .kind = LB_OPT_FLOAT,
     .arg = "X",
     .initial = "0",
     .help = "singular values up to it are left out",
     .off = offsetof(extract_opts, epsilon)},
    {.name = "skip-undecomposable",
     .kind = LB_OPT_FLAG,
     .help = "leave out what differs and is no matrix (norms), instead of saving it whole",
     .off = offsetof(extract_opts, skip)},
    {.name = "dtype",
     .kind = LB_OPT_ENUM,
     .arg = "f32|f16|bf16",
     .initial = "f32",
     .help = "type of the adapter's matrices",
     .off = offsetof(extract_opts, dtype)},
};

static lb_status run_extract(lb_cli *cli, const void *opts, const char *const *args, u32 n_args,
                             lb_err *err) {
    static const lb_dtype dtypes[] = {LB_F32, LB_F16, LB_BF16};
    extract_opts o = *(const extract_opts *)opts;
    lb_writer w;
    lb_out_report report = {0};
    lb_buf plan = {0};
    (void)n_args;
    lb_extract_opts x = {.base = args[0],
                         .tuned = args[1],
                         .rank = (u32)o.rank,
                         .energy = o.energy,
                         .epsilon = o.epsilon,
                         .power = (u32)o.power,
                         .seed = o.seed,
                         .exact = o.exact,
                         .distribute = !o.plain,
                         .embed = o.embed,
                         .skip = o.skip,
                         .save = o.save.item,
                         .n_save = o.save.n,
                         .include = o.include.item,
                         .n_include = o.include.n,
                         .exclude = o.exclude.item,
                         .n_exclude = o.exclude.n};
    LB_TRY(lb_writer_begin(&w, cli, &o.writing, &o.common, "lora extract", err));
    lb_convert_opts c = {
        .verb = "lora extract", .cast = o.dtype != 0, .dtype = dtypes[o.dtype], .w = w.opts};
    lb_status st = lb_extract(&x, &c, &plan, &w.remarks, &report, err);
    lb_writer_end(&w, cli, &o.common, &report, &plan, st);
    lb_buf_deinit(&plan);
    return st;
}

const lb_command lb_cmd_lora_extract = {
    .name = "lora extract",
    .summary = "Makes an adapter (LoRA) of the difference of two models.",
    .args = "BASE FINETUNED -o ADAPTER",
    .examples = {{"a folder of PEFT of rank 64", "lbrx lora extract base/ tuned/ -o adapter/"},
                 {"as much rank as 99 % of each difference take",
                  "lbrx lora extract base/ tuned/ -o adapter/ --rank 256 --energy 0.99"},
                 {"a folder of mlx-lm, of two GGUF files",
                  "lbrx lora extract base.gguf tuned.gguf -o adapter/ --to mlx"}},
    .details = "Models may be of any format, quantized ones too. Both are read several times, and "
               "none is held: the factors go to a file beside the output first. What is no matrix "
               "and differs is saved whole; what an adapter has no place for is refused by name.",
    .n_args_min = 2,
    .n_args_max = 2,
    .group = {LB_GROUP("Options", extract_rows, 0), LB_GROUP_WRITE(offsetof(extract_opts, writing)),
              LB_GROUP_COMMON(offsetof(extract_opts, common))},
    .size_bytes = sizeof(extract_opts),
    .run = run_extract,
};
