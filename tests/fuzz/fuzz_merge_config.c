/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_merge_config.c: the reader of merge files on any bytes.
 *
 * Checked: no crash; what is taken names models that there are, and documents that stand before it;
 * what is refused says so in one line. */
#include "merge/config.h"

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
        LB_ASSERT(c->tokens[i].model < c->n_refs);
    LB_ASSERT(c->vocab != LB_VOCAB_MODEL || c->vocab_model < c->n_refs);
    check_settings(&c->settings);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size) {
    for (u32 flags = 0; flags <= LB_MERGE_RAW; flags++) {
        lb_arena a = {.max_bytes = 64 * LB_MIB};
        lb_err err = {0};
        lb_merge_file f;
        lb_status st =
            lb_merge_file_parse((lb_str){(const char *)data, size}, "t", flags, &a, &f, &err);
        LB_ASSERT(st == LB_OK || err.msg[0]);
        for (u32 i = 0; st == LB_OK && i < f.n_merges; i++)
            check_config(&f.merges[i], i);
        lb_arena_deinit(&a);
    }
    return 0;
}
