/* SPDX-License-Identifier: Apache-2.0 */
/* mlx_recipe.c: what src/quant decides for the tensors of an MLX folder, for
 * tests/peers/peer_recipe_mlx.py.
 *
 * usage: mlx_recipe FOLDER RUN...
 * RUN is TYPE[/GROUP][ OVERRIDE]... or "pure TYPE..."; for each a line with the object of
 * config.json or "error MESSAGE", then "TENSOR MODE BITS GROUP WHY" of all tensors (of a module) or
 * "TENSOR TYPE - - WHY", then "done". */
#include "arch/arch_config.h"
#include "ops/open.h"
#include "quant/mlx_recipe.h"
#include <stdio.h>

static lb_err err;

static lb_str word(lb_str *line) {
    size_t end = line->len;
    (void)lb_str_find(*line, LB_STR(" "), &end);
    const lb_str w = lb_str_sub(*line, 0, end);
    *line = lb_str_sub(*line, LB_MIN(end + 1, line->len), line->len);
    return w;
}

static lb_status read_run(lb_str line, lb_mlx_opts *o, lb_overrides *overrides) {
    lb_str type = word(&line);
    size_t slash = type.len;
    u64 group = 0;
    o->pure = lb_str_eq_c(type, "pure");
    if (o->pure)
        type = word(&line);
    slash = type.len;
    if (lb_str_find(type, LB_STR("/"), &slash))
        (void)lb_str_to_u64(lb_str_sub(type, slash + 1, type.len), &group);
    LB_TRY(lb_mlx_opts_find(lb_str_sub(type, 0, slash), (u32)group, o, &err));
    while (line.len)
        LB_TRY(lb_override_add(overrides, word(&line), false, &err));
    return LB_OK;
}

static lb_status run(lb_str line, lb_mlx_job *job, const lb_json *kept, lb_arena *scratch) {
    static const char *const why[] = {"no-module", "codes",  "rows",    "default",
                                      "model",     "recipe", "override"};
    lb_overrides overrides = {.arena = scratch, .find_type = lb_mlx_type_find};
    lb_mlx_opts opts = {.overrides = &overrides};
    lb_mlx_choice *ch = lb_arena_new(scratch, lb_mlx_choice, job->n);
    lb_json *object = NULL;
    lb_buf b = {0};
    job->opts = &opts;
    if (!ch)
        return lb_fail(&err, LB_E_NOMEM, "out of memory");
    LB_TRY(read_run(line, &opts, &overrides));
    LB_TRY(lb_mlx_check_overrides(job, &err));
    LB_TRY(lb_mlx_choose(job, ch, &err));
    LB_TRY(lb_mlx_quantization(job, ch, kept, scratch, &object, &err));
    lb_json_write(&b, object, (lb_json_style){0});
    printf("%.*s\n", LB_FMT(lb_buf_str(&b)));
    lb_buf_deinit(&b);
    for (u64 i = 0; i < job->n; i++) {
        const lb_enc *e = &ch[i].enc;
        printf("%.*s ", LB_FMT(job->tensors[i].name));
        if (e->kind == LB_ENC_PLAIN)
            printf("%s - -", lb_dtype_get(ch[i].dtype)->name);
        else
            printf("%s %u %u", lb_mlx_mode_name(e->kind), e->bits, e->group_size);
        printf(" %s\n", why[ch[i].why]);
    }
    return LB_OK;
}

int main(int argc, char **argv) {
    lb_source *s = NULL;
    lb_arena perm = {0}, scratch = {0};
    lb_json *config = NULL;
    const lb_arch *arch = NULL;
    lb_hparams hp;
    if (argc < 3 || lb_open(&s, argv[1], &err) != LB_OK ||
        lb_json_parse(s->config, "config.json", &perm, &config, &err) != LB_OK ||
        lb_arch_from_config(config, &arch, &hp, &err) != LB_OK) {
        fprintf(stderr, "mlx_recipe: %s\n", argc < 3 ? "FOLDER RUN..." : err.msg);
        return 2;
    }
    lb_mlx_tensor *t = lb_arena_new(&perm, lb_mlx_tensor, s->n_tensors + 1);
    for (u64 i = 0; t && i < s->n_tensors; i++)
        t[i] = (lb_mlx_tensor){s->tensors[i].name, s->tensors[i].shape, s->tensors[i].dtype};
    lb_mlx_job job = {NULL, arch, &hp, s->n_tensors, t};
    for (int i = 2; i < argc && t; i++) {
        if (run(lb_str_c(argv[i]), &job, lb_json_get(config, "quantization"), &scratch) != LB_OK)
            printf("error %s\n", err.msg);
        puts("done");
        lb_arena_reset(&scratch);
    }
    lb_source_close(&s);
    lb_arena_deinit(&perm);
    lb_arena_deinit(&scratch);
    return t ? 0 : 2;
}
