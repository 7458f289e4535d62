/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_merge_config.c: the reader of merge files on any bytes, and what a merge would be made of.
 *
 * Checked: no crash; what is taken names models that there are, and documents that stand before it;
 * what is refused says so in one line. With small models of the names that the file has: each of
 * their tensors is in the result or skipped, never both. */
#include "merge/outline.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static void check_settings(const lb_merge_settings *s) {
    for (u32 i = 0; i < s->n; i++) {
        LB_ASSERT(s->list[i].line > 0);
        for (u32 k = 0; k < s->list[i].n_choices; k++) {
            const lb_json *v = s->list[i].choices[k].value;
            double x;
            i64 n;
            bool b;
            LB_ASSERT(v && v->type != LB_JNULL && v->type != LB_JOBJECT);
            for (const lb_json *e = v->type == LB_JARRAY ? v->first : v; e;
                 e = v == e ? NULL : e->next) {
                LB_ASSERT(e->type == LB_JBOOL || e->type == LB_JNUMBER || e->type == LB_JSTRING);
                (void)lb_merge_as_float(e, &x);
                (void)lb_merge_as_int(e, &n);
                (void)lb_merge_as_bool(e, &b);
            }
        }
    }
}

static void check_slice(const lb_merge_config *c, const lb_merge_slice *s) {
    LB_ASSERT(s->n_sources > 0 && (s->base == LB_NO_MODEL || s->base < c->n_refs));
    check_settings(&s->settings);
    for (u32 i = 0; i < s->n_sources; i++) {
        LB_ASSERT(s->sources[i].model < c->n_models);
        LB_ASSERT(s->sources[i].all || s->sources[i].first <= s->sources[i].end);
        check_settings(&s->sources[i].settings);
    }
}

static void check_config(const lb_merge_config *c, u32 place) {
    LB_ASSERT(c->n_models > 0 && c->n_models <= c->n_refs && c->n_modules > 0);
    LB_ASSERT(c->base == LB_NO_MODEL || c->base == 0);
    for (u32 i = 0; i < c->n_refs; i++) {
        LB_ASSERT(c->models[i].path.len > 0 && c->models[i].text.len > 0);
        LB_ASSERT(c->models[i].merge == LB_NO_MERGE || c->models[i].merge < place);
    }
    for (u32 i = 0; i < c->n_modules; i++) {
        LB_ASSERT(c->modules[i].n_slices > 0);
        check_settings(&c->modules[i].settings);
        for (u32 k = 0; k < c->modules[i].n_slices; k++)
            check_slice(c, &c->modules[i].slices[k]);
    }
    for (u32 i = 0; i < c->n_tokens; i++)
        LB_ASSERT(c->tokens[i].model < c->n_models);
    LB_ASSERT(c->vocab != LB_VOCAB_MODEL || c->vocab_model < c->n_refs);
    check_settings(&c->settings);
}

#define N_LAYERS 3
#define N_FACTS (3 + 2 * (N_LAYERS + 1))

/* Every second model is tied and lacks biases; one layer stands behind the counted. */
static bool fill(u32 m, lb_arena *a, lb_merge_model *out) {
    static const u64 n_layers[2] = {N_LAYERS, 0};
    lb_merge_fact *f = lb_arena_new(a, lb_merge_fact, N_FACTS), *at = f;
    if (!f)
        return false;
    lb_merge_fact plain = {.shape = {2, {4, 4}}, .dtype = LB_BF16, .layer = LB_NO_LAYER};
    plain.same_as = LB_NO_FACT;
    for (u32 i = 0; i < 3; i++) {
        static const char *const names[] = {"embed_tokens.weight", "norm.weight", "lm_head.weight"};
        *at = plain;
        at->name = lb_str_c(names[i]);
        at->after = i > 0;
        at->is_vocab = at->is_optional = i != 1;
        at++->same_as = i == 2 && m % 2 ? 0 : LB_NO_FACT;
    }
    for (u32 i = 0; i <= N_LAYERS; i++)
        for (u32 k = 0; k < 2 - m % 2; k++) {
            *at = plain;
            at->name = lb_arena_printf(a, "layers.%u.%s", i, k ? "q.bias" : "q.weight");
            at->is_optional = k;
            at++->layer = i;
        }
    *out = (lb_merge_model){n_layers, f, (u32)(at - f)};
    return at[-1].name.ptr;
}

static void check_outline(const lb_merge_config *c, lb_arena *a) {
    static const lb_str modules[] = {{"text_decoder", 12}, {"vision_tower", 12}};
    lb_merge_model *models = lb_arena_new(a, lb_merge_model, c->n_models);
    lb_merge_outline o;
    lb_err err = {0};
    for (u32 i = 0; i < c->n_models; i++)
        if (!models || !fill(i, a, &models[i]))
            return;
    lb_merge_world w = {modules, c->chat_template.len ? 2 : 1, models};
    if (lb_merge_outline_make(c, NULL, &w, a, &o, &err) != LB_OK) {
        LB_ASSERT(err.msg[0]);
        return;
    }
    u8 *use = lb_arena_new(a, u8, (u64)c->n_models * N_FACTS);
    for (u64 i = 0; use && i < o.n_tensors; i++)
        for (u32 k = 0; k < o.tensors[i].n_slots; k++)
            use[o.tensors[i].slots[k].model * N_FACTS + o.tensors[i].slots[k].fact] = 1;
    for (u64 i = 0; use && i < o.n_skipped; i++) {
        u8 *at = &use[o.skipped[i].model * N_FACTS + o.skipped[i].fact];
        LB_ASSERT(*at == 0);
        *at = 1;
    }
    for (u32 m = 0; use && m < c->n_models; m++)
        for (u32 i = 0; i < models[m].n_facts; i++)
            LB_ASSERT(use[m * N_FACTS + i] || models[m].facts[i].same_as != LB_NO_FACT);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size) {
    for (u32 flags = 0; flags <= LB_MERGE_RAW; flags++) {
        lb_arena a = {.max_bytes = 64 * LB_MIB};
        lb_err err = {0};
        lb_merge_file f;
        lb_status st =
            lb_merge_file_parse((lb_str){(const char *)data, size}, "t", flags, &a, &f, &err);
        LB_ASSERT(st == LB_OK || err.msg[0]);
        for (u32 i = 0; st == LB_OK && i < f.n_merges; i++) {
            check_config(&f.merges[i], i);
            if (f.merges[i].n_models < 20)
                check_outline(&f.merges[i], &a);
        }
        lb_arena_deinit(&a);
    }
    return 0;
}
