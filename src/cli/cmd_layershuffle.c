/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_layershuffle.c: `lbrx layershuffle`: a merge of layers drawn at random. */
#include "base/os.h"
#include "cli/convert.h"
#include "cli/typing.h"
#include "ops/layershuffle.h"
#include "ops/merge.h"
#include <stdio.h>
#include <stdlib.h>

typedef struct shuffle_opts {
    lb_common common;
    lb_writing writing;
    lb_typing typing;
    lb_opt_list model, weight;
    const char *seed, *write_yaml;
    bool full_random, fp16, print_yaml;
} shuffle_opts;

static const lb_opt shuffle_rows[] = {
    {.name = "model",
     .short_name = 'm',
     .kind = LB_OPT_STR,
     .arg = "MODEL",
     .help = "a model, in place of CONFIG",
     .repeatable = true,
     .off = offsetof(shuffle_opts, model)},
    {.name = "weight",
     .short_name = 'w',
     .kind = LB_OPT_STR,
     .arg = "W",
     .help = "how often it is drawn, against the others' (1); with --full-random the share of its "
             "layers",
     .repeatable = true,
     .off = offsetof(shuffle_opts, weight)},
    {.name = "full-random",
     .kind = LB_OPT_FLAG,
     .help = "any layer at any place, not only its own",
     .off = offsetof(shuffle_opts, full_random)},
    {.name = "seed",
     .kind = LB_OPT_STR,
     .arg = "N",
     .help = "of the draws: those of Python's random.seed(N) (CONFIG's random_seed, else 0)",
     .off = offsetof(shuffle_opts, seed)},
    {.name = "fp16",
     .kind = LB_OPT_FLAG,
     .help = "the same as dtype: float16 in CONFIG",
     .off = offsetof(shuffle_opts, fp16)},
    {.name = "print-yaml",
     .kind = LB_OPT_FLAG,
     .help = "print the merge file; without -o nothing else is done",
     .off = offsetof(shuffle_opts, print_yaml)},
    {.name = "write-yaml",
     .kind = LB_OPT_PATH,
     .arg = "FILE",
     .help = "write the merge file; without -o nothing else is done",
     .off = offsetof(shuffle_opts, write_yaml)},
};

static lb_status read_seed(const shuffle_opts *o, const lb_shuffle *s, u64 *seed, lb_err *err) {
    *seed = s->seed;
    if (!o->seed || lb_str_to_u64(lb_str_c(o->seed), seed))
        return LB_OK;
    return lb_fail(err, LB_E_USAGE, "--seed: '%s' is no whole number from 0", o->seed);
}

static lb_status from_options(const shuffle_opts *o, lb_arena *perm, lb_shuffle *s, lb_err *err) {
    *s = (lb_shuffle){0};
    if (o->weight.n && o->weight.n != o->model.n)
        return lb_fail(err, LB_E_USAGE, "%u models and %u weights: one -w for each -m, or none",
                       o->model.n, o->weight.n);
    if (!(s->models = lb_arena_new(perm, lb_shuffle_model, o->model.n)))
        return lb_fail(err, LB_E_NOMEM, "out of memory");
    s->n_models = o->model.n;
    for (u32 i = 0; i < s->n_models; i++) {
        lb_json w = {.type = LB_JSTRING};
        s->models[i] = (lb_shuffle_model){.text = lb_str_c(o->model.item[i]), .weight = 1};
        w.text = lb_str_c(o->weight.n ? o->weight.item[i] : "1");
        if (!lb_merge_as_float(&w, &s->models[i].weight))
            return lb_fail(err, LB_E_USAGE, "--weight: '%s' is no number", o->weight.item[i]);
    }
    return LB_OK;
}

static lb_status read_all(lb_cli *cli, const shuffle_opts *o, const char *file, lb_shuffle *s,
                          lb_err *err) {
    lb_str text;
    if (!file == !o->model.n)
        return lb_fail(err, LB_E_USAGE, "layershuffle: a CONFIG or models (-m) %s",
                       file ? "exclude each other" : "are needed");
    if (!file)
        LB_TRY(from_options(o, &cli->arena, s, err));
    if (file)
        LB_TRY(lb_os_read_file(file, 4 * LB_MIB, &cli->arena, &text, err));
    if (file)
        LB_TRY(lb_shuffle_parse(text, file, &cli->arena, s, err));
    s->full_random |= o->full_random;
    if (o->fp16)
        s->dtype = LB_STR("float16");
    return LB_OK;
}

static lb_status write_text(const char *path, lb_str text, lb_err *err) {
    FILE *f = fopen(path, "wb");
    bool ok = f && fwrite(text.ptr, 1, text.len, f) == text.len;
    ok = (!f || fclose(f) == 0) && ok;
    return ok ? LB_OK : lb_fail(err, LB_E_IO, "%s: the merge file cannot be written", path);
}

static lb_status open_merge(const void *user, const char *model, lb_source **out, lb_err *err) {
    return lb_merge_open(out, model, user, err);
}

static lb_status run_layershuffle(lb_cli *cli, const void *opts, const char *const *args,
                                  u32 n_args, lb_err *err) {
    shuffle_opts o = *(const shuffle_opts *)opts;
    const char *file = n_args ? args[0] : NULL;
    lb_quantize_opts q;
    LB_TRY(lb_typing_fill(&o.typing, &q, err));
    lb_shuffle s;
    lb_buf yaml = {0};
    u64 seed;
    if (o.print_yaml && o.common.json)
        return lb_fail(err, LB_E_USAGE, "--print-yaml and --json exclude each other");
    LB_TRY(read_all(cli, &o, file, &s, err));
    LB_TRY(read_seed(&o, &s, &seed, err));
    lb_status st = lb_layershuffle_text(&s, file, seed, &yaml, err);
    if (st == LB_OK && o.write_yaml)
        st = write_text(o.write_yaml, lb_buf_str(&yaml), err);
    if (st == LB_OK && o.print_yaml)
        lb_buf_put_str(&cli->out, lb_buf_str(&yaml));
    lb_merge_opts m = {.text = lb_buf_str(&yaml), .file = file};
    lb_cli_opened from = {open_merge, &m, file ? file : "layershuffle"};
    lb_str said = lb_arena_printf(&cli->arena, " --seed %llu", (unsigned long long)seed);
    lb_convert_opts c = {.verb = "layershuffle",
                         .verb_options = said.ptr,
                         .quantize = lb_typing_given(&o.typing) ? &q : NULL};
    bool text_only = (o.print_yaml || o.write_yaml) && !o.writing.output && o.writing.to == 0;
    if (st == LB_OK && !text_only)
        st = lb_cli_convert_opened(cli, &o.writing, &o.common, &from, &c, err);
    lb_buf_deinit(&yaml);
    return st;
}

const lb_command lb_cmd_layershuffle = {
    .name = "layershuffle",
    .summary = "Makes a model of layers drawn at random from several models.",
    .args = "[CONFIG.yml] -o OUT",
    .examples = {{"each layer from one of two models", "lbrx layershuffle shuffle.yml -o mixed/"},
                 {"without a file, as mergekit-layershuffle takes it",
                  "lbrx layershuffle -m a -w 0.7 -m b -w 0.3 --seed 3 -o mixed/"},
                 {"only the merge file", "lbrx layershuffle shuffle.yml --print-yaml"}},
    .details = "CONFIG is a YAML file with `models` (a list of `model` and `weight`), "
               "`full_random`, `dtype` and `random_seed`. What is made of it is a merge file of "
               "slices, which `lbrx merge` would run as well.",
    .n_args_max = 1,
    .group = {LB_GROUP("Options", shuffle_rows, 0), LB_GROUP_TYPING(offsetof(shuffle_opts, typing)),
              LB_GROUP_WRITE(offsetof(shuffle_opts, writing)),
              LB_GROUP_COMMON(offsetof(shuffle_opts, common))},
    .size_bytes = sizeof(shuffle_opts),
    .run = run_layershuffle,
};
