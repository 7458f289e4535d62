/* SPDX-License-Identifier: Apache-2.0 */
/* recipe.c: what src/quant decides for the tensors of a GGUF file, for tests/peers/peer_recipe.py.
 *
 * usage: recipe FILE.gguf RECIPE[,RECIPE]... [OPTION]...
 * Options as llama-quantize has them, but for --imatrix, which names no file: all tensors have
 * weights. For each recipe a line "recipe NAME FILE_TYPE", then in llama-quantize's order
 * "TENSOR TYPE WANTED WHY NEEDS_IMPORTANCE", then "done", "refused MESSAGE" (lb_recipe_check) or
 * "error MESSAGE" (lb_recipe_choose). */
#include "ops/open.h"
#include "quant/recipe.h"
#include <stdio.h>

static lb_err err;
static lb_dtype output, embedding;

static int fail(const char *what) {
    fprintf(stderr, "recipe: %s: %s\n", what, err.msg);
    return 2;
}

/* Takes argv[*i], and its value. */
static lb_status option(lb_recipe_opts *o, lb_overrides *v, char **argv, int *i) {
    const lb_str name = lb_str_c(argv[*i]);
    if (lb_str_eq_c(name, "--pure"))
        o->pure = true;
    else if (lb_str_eq_c(name, "--leave-output-tensor"))
        o->keep_output = true;
    else if (lb_str_eq_c(name, "--allow-requantize"))
        o->requantize = true;
    else if (lb_str_eq_c(name, "--imatrix"))
        o->importance = true;
    else if (!argv[*i + 1])
        return lb_fail(&err, LB_E_USAGE, "%s: no value, or no such option", argv[*i]);
    else if (lb_str_eq_c(name, "--tensor-type"))
        return lb_override_add(v, lb_str_c(argv[++*i]), true, &err);
    else if (lb_str_eq_c(name, "--output-tensor-type")) {
        o->output = &output;
        return lb_recipe_type_find(lb_str_c(argv[++*i]), &output, &err);
    } else if (lb_str_eq_c(name, "--token-embedding-type")) {
        o->embedding = &embedding;
        return lb_recipe_type_find(lb_str_c(argv[++*i]), &embedding, &err);
    } else
        return lb_fail(&err, LB_E_USAGE, "%s: no such option", argv[*i]);
    return LB_OK;
}

static lb_status run(const lb_recipe_job *job, lb_arena *scratch) {
    static const char *const why[] = {"kept", "default", "rule", "option", "override"};
    const lb_recipe *r = lb_recipe_get(job->opts->recipe);
    lb_recipe_choice *ch = lb_arena_new(scratch, lb_recipe_choice, job->n);
    u32 *order = lb_arena_new(scratch, u32, job->n);
    if (!ch || !order)
        return lb_fail(&err, LB_E_NOMEM, "out of memory");
    printf("recipe %s %u\n", r->name, r->file_type);
    if (lb_recipe_choose(job, ch, scratch, &err) != LB_OK) {
        printf("error %s\n", err.msg);
        return LB_OK;
    }
    LB_TRY(lb_recipe_order(job->n, job->tensors, order, scratch, &err));
    for (u64 i = 0; i < job->n; i++) {
        const lb_recipe_choice *c = &ch[order[i]];
        printf("%.*s %s %s %s %d\n", LB_FMT(job->tensors[order[i]].name),
               lb_dtype_get(c->dtype)->name, lb_dtype_get(c->wanted)->name, why[c->why],
               c->needs_importance);
    }
    if (lb_recipe_check(job, ch, &err) == LB_OK)
        puts("done");
    else
        printf("refused %s\n", err.msg);
    return LB_OK;
}

int main(int argc, char **argv) {
    lb_source *s = NULL;
    lb_arena perm = {0}, scratch = {0};
    lb_recipe_opts opts = {0};
    lb_overrides overrides = {.arena = &perm};
    lb_recipe_model model;
    lb_status st = LB_OK;
    if (argc < 3)
        return fail("usage: recipe FILE.gguf RECIPE[,RECIPE]... [OPTION]...");
    for (int i = 3; i < argc && st == LB_OK; i++)
        st = option(&opts, &overrides, argv, &i);
    if (st != LB_OK)
        return fail("options");
    opts.overrides = &overrides;
    if (lb_open(&s, argv[1], &err) != LB_OK || !s->gguf ||
        lb_recipe_model_from_meta(s->gguf, &model, &err) != LB_OK)
        return fail(argv[1]);
    lb_recipe_tensor *t = lb_arena_new(&perm, lb_recipe_tensor, s->n_tensors + 1);
    for (u64 i = 0; t && i < s->n_tensors; i++)
        t[i] = (lb_recipe_tensor){s->tensors[i].name, s->tensors[i].shape, s->tensors[i].dtype,
                                  opts.importance};
    const lb_recipe_job job = {&opts, &model, s->n_tensors, t};
    lb_str list = lb_str_c(argv[2]);
    while (list.len && t && st == LB_OK) {
        size_t comma = list.len;
        (void)lb_str_find(list, LB_STR(","), &comma);
        if (!lb_recipe_find(lb_str_sub(list, 0, comma), &opts.recipe))
            return fail("no such recipe");
        st = run(&job, &scratch);
        lb_arena_reset(&scratch);
        list = lb_str_sub(list, LB_MIN(comma + 1, list.len), list.len);
    }
    lb_source_close(&s);
    lb_arena_deinit(&perm);
    lb_arena_deinit(&scratch);
    return st == LB_OK && t ? 0 : fail("run");
}
