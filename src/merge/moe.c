/* SPDX-License-Identifier: Apache-2.0 */
/* moe.c: see moe.h. */
#include "merge/moe.h"
#include "io/yaml.h"
#include "merge/config_internal.h"

static const char *const gate_names[] = {"hidden", "hidden_avg",     "hidden_last", "cheap_embed",
                                         "random", "uniform_random", NULL};

const char *lb_moe_gate_name(lb_moe_gate g) {
    return gate_names[g];
}

/* ---- the file ---- */

static lb_status read_prompts(lb_merge_reader *r, const lb_json *object, const char *key,
                              lb_str **list, u32 *n) {
    const lb_json *v = lb_merge_get(object, key);
    *n = 0;
    if (!v)
        return LB_OK;
    u32 before = lb_merge_enter(r, v->key);
    if (v->type != LB_JARRAY)
        return lb_merge_bad(r, v, "a list of prompts is needed");
    if (!(*list = lb_arena_new(r->perm, lb_str, v->n + 1)))
        return lb_merge_no_memory(r);
    for (const lb_json *m = v->first; m; m = m->next) {
        u32 inner = lb_merge_enter_at(r, *n);
        LB_TRY(lb_merge_text(r, m, &(*list)[(*n)++]));
        lb_merge_leave(r, inner);
    }
    lb_merge_leave(r, before);
    return LB_OK;
}

static lb_status read_number(lb_merge_reader *r, const lb_json *object, const char *key,
                             double *out) {
    const lb_json *v = lb_merge_get(object, key);
    if (!v)
        return LB_OK;
    u32 before = lb_merge_enter(r, v->key);
    if (!lb_merge_as_float(v, out) || !(*out - *out == 0))
        return lb_merge_bad(r, v, "a finite number is needed");
    lb_merge_leave(r, before);
    return LB_OK;
}

static lb_status read_expert(lb_merge_reader *r, const lb_json *v, lb_moe_expert *out) {
    static const char *const keys[] = {"source_model", "positive_prompts", "negative_prompts",
                                       "noise_scale",  "residual_scale",   NULL};
    LB_TRY(lb_merge_keys(r, v, keys));
    const lb_json *model = lb_merge_get(v, "source_model");
    *out = (lb_moe_expert){.residual_scale = 1, .line = v->line};
    if (!model)
        return lb_merge_bad(r, v, "`source_model` is missing");
    u32 before = lb_merge_enter(r, model->key);
    LB_TRY(lb_merge_read_ref(r, model, true, &out->model));
    lb_merge_leave(r, before);
    LB_TRY(read_prompts(r, v, "positive_prompts", &out->positive, &out->n_positive));
    LB_TRY(read_prompts(r, v, "negative_prompts", &out->negative, &out->n_negative));
    LB_TRY(read_number(r, v, "noise_scale", &out->noise_scale));
    return read_number(r, v, "residual_scale", &out->residual_scale);
}

static lb_status read_experts(lb_merge_reader *r, const lb_json *list, lb_moe_expert **out,
                              u32 *n) {
    *n = 0;
    if (!list)
        return LB_OK;
    u32 before = lb_merge_enter(r, list->key);
    if (list->type != LB_JARRAY)
        return lb_merge_bad(r, list, "a list of experts is needed");
    if (!(*out = lb_arena_new(r->perm, lb_moe_expert, list->n + 1)))
        return lb_merge_no_memory(r);
    for (const lb_json *m = list->first; m; m = m->next) {
        u32 inner = lb_merge_enter_at(r, *n);
        LB_TRY(read_expert(r, m, &(*out)[(*n)++]));
        lb_merge_leave(r, inner);
    }
    lb_merge_leave(r, before);
    return LB_OK;
}

static lb_status read_gate(lb_merge_reader *r, const lb_json *root, lb_moe_config *out) {
    const lb_json *v = lb_merge_get(root, "gate_mode");
    lb_str s;
    out->gate = LB_MOE_HIDDEN;
    out->gate_line = v ? v->line : root->line;
    if (!v)
        return LB_OK;
    u32 before = lb_merge_enter(r, v->key);
    LB_TRY(lb_merge_text(r, v, &s));
    for (u32 i = 0; gate_names[i]; i++)
        if (lb_str_eq_c(s, gate_names[i])) {
            out->gate = (lb_moe_gate)i;
            lb_merge_leave(r, before);
            return LB_OK;
        }
    const char *near = lb_merge_nearest(s, gate_names);
    return lb_merge_bad(r, v,
                        "'%.*s' is none of hidden, hidden_avg, hidden_last, cheap_embed, random, "
                        "uniform_random%s%s%s",
                        LB_FMT(s), near ? "; did you mean " : "", near ? near : "",
                        near ? "?" : "");
}

/* Keys of merge files that people leave in these, and that mergekit-moe passes over. */
static const char *const ignored[] = {"merge_method",     "parameters", "name",       "tokenizer",
                                      "tokenizer_source", "out_dtype",  "random_seed"};

static lb_status check_keys(lb_merge_reader *r, const lb_json *root) {
    static const char *const keys[] = {
        "base_model",        "experts",          "shared_experts", "gate_mode",   "dtype",
        "experts_per_token", "architecture",     "merge_method",   "parameters",  "name",
        "tokenizer",         "tokenizer_source", "out_dtype",      "random_seed", NULL};
    if (root->type != LB_JOBJECT)
        return lb_merge_bad(r, root, "a mapping with the keys base_model, experts... is needed");
    LB_TRY(lb_merge_keys(r, root, keys));
    for (u32 i = 0; i < LB_LEN(ignored); i++) {
        const lb_json *v = lb_json_get(root, ignored[i]);
        if (!v)
            continue;
        u32 before = lb_merge_enter(r, v->key);
        LB_TRY(lb_merge_note(r, v, "says nothing in a file of experts, as in mergekit-moe"));
        lb_merge_leave(r, before);
    }
    return LB_OK;
}

static lb_status read_root(lb_merge_reader *r, const lb_json *root, lb_moe_config *out) {
    lb_merge_config *c = r->config;
    LB_TRY(check_keys(r, root));
    const lb_json *base = lb_merge_get(root, "base_model"), *n = lb_merge_get(root, "experts");
    const lb_json *per = lb_merge_get(root, "experts_per_token");
    const lb_json *arch = lb_merge_get(root, "architecture");
    i64 k = 2;
    if (!base || !n)
        return lb_merge_bad(r, root, "`%s` is missing", base ? "experts" : "base_model");
    u32 before = lb_merge_enter(r, base->key);
    LB_TRY(lb_merge_read_ref(r, base, true, &c->base));
    lb_merge_leave(r, before);
    LB_TRY(read_experts(r, n, &out->experts, &out->n_experts));
    LB_TRY(read_experts(r, lb_merge_get(root, "shared_experts"), &out->shared, &out->n_shared));
    LB_TRY(read_gate(r, root, out));
    LB_TRY(lb_merge_read_dtype(r, root, "dtype", &c->has_dtype, &c->dtype));
    if (per) {
        lb_merge_enter(r, per->key);
        if (!lb_merge_as_int(per, &k) || k < 1)
            return lb_merge_bad(r, per, "a whole number from 1 is needed");
        lb_merge_leave(r, before);
    }
    out->experts_per_token = (u64)k;
    if (arch) {
        lb_merge_enter(r, arch->key);
        LB_TRY(lb_merge_text(r, arch, &out->architecture));
        out->architecture_line = arch->line;
        lb_merge_leave(r, before);
    }
    c->n_models = c->n_refs;
    return LB_OK;
}

lb_status lb_moe_config_parse(lb_str text, const char *what, lb_arena *perm, lb_moe_config *out,
                              lb_err *err) {
    lb_json *root;
    *out = (lb_moe_config){.refs = {.what = lb_arena_str(perm, lb_str_c(what))}};
    lb_merge_reader r = {.what = out->refs.what, .perm = perm, .err = err, .config = &out->refs};
    if (!r.what.ptr)
        return lb_fail(err, LB_E_NOMEM, "%s: out of memory", what);
    LB_TRY(lb_yaml_parse(text, what, 0, perm, &root, err));
    lb_status st = read_root(&r, root, out);
    lb_map_deinit(&r.refs);
    return st;
}

/* A line that begins with the key: enough to send a file to its reader, which then knows better. */
bool lb_moe_is_config(lb_str text) {
    static const char *const keys[] = {"experts", "\"experts\"", "'experts'"};
    bool found = false;
    for (size_t at = 0; at < text.len && !found;) {
        size_t end;
        lb_str rest = lb_str_sub(text, at, text.len);
        for (u32 i = 0; i < LB_LEN(keys); i++) {
            size_t n = strlen(keys[i]);
            found |= lb_str_starts(rest, lb_str_c(keys[i])) && rest.len > n &&
                     (rest.ptr[n] == ':' || rest.ptr[n] == ' ');
        }
        if (!lb_str_find(rest, LB_STR("\n"), &end))
            break;
        at += end + 1;
    }
    return found;
}

/* ---- what makes no useful model ---- */

static lb_status bad(const lb_moe_config *c, u32 line, const char *text, lb_err *err) {
    return lb_fail(err, LB_E_FORMAT, "%.*s: line %u: %s", LB_FMT(c->refs.what), line, text);
}

static bool same_prompts(const lb_moe_expert *a, const lb_moe_expert *b) {
    bool same = a->n_positive == b->n_positive && a->n_negative == b->n_negative;
    for (u32 i = 0; same && i < a->n_positive; i++)
        same = lb_str_eq(a->positive[i], b->positive[i]);
    for (u32 i = 0; same && i < a->n_negative; i++)
        same = lb_str_eq(a->negative[i], b->negative[i]);
    return same;
}

static lb_status check_prompts(const lb_moe_config *c, lb_err *err) {
    bool alike = true;
    for (u32 i = 0; i < c->n_experts; i++) {
        if (c->experts[i].n_positive == 0)
            return lb_fail(err, LB_E_FORMAT,
                           "%.*s: line %u: experts[%u]: positive_prompts is missing or empty: "
                           "gate_mode %s makes the router of them",
                           LB_FMT(c->refs.what), c->experts[i].line, i, gate_names[c->gate]);
        alike = alike && same_prompts(&c->experts[0], &c->experts[i]);
    }
    if (alike)
        return bad(c, c->experts[0].line,
                   c->n_experts > 1
                       ? "experts: all have the same prompts: nothing tells which to choose"
                       : "experts: one expert needs no prompts: use gate_mode random",
                   err);
    for (u32 i = 1; i < c->n_shared; i++)
        if (!c->shared[i].n_positive != !c->shared[0].n_positive)
            return bad(c, c->shared[i].line,
                       "shared_experts: some have prompts and some have not: all or none", err);
    return LB_OK;
}

lb_status lb_moe_config_check(const lb_moe_config *c, bool all_same, lb_err *err) {
    if (c->n_experts < c->experts_per_token)
        return lb_fail(err, LB_E_FORMAT,
                       "%.*s: %u experts, of which a token is to use %llu (experts_per_token)",
                       LB_FMT(c->refs.what), c->n_experts,
                       (unsigned long long)c->experts_per_token);
    if (lb_moe_gate_reads_prompts(c->gate))
        LB_TRY(check_prompts(c, err));
    bool alike = c->gate != LB_MOE_RANDOM && c->n_experts > 1 && !all_same;
    for (u32 i = 1; i < c->n_experts; i++)
        alike = alike && c->experts[i].model == c->experts[0].model;
    return alike ? bad(c, c->experts[0].line,
                       "experts: all are the same model, so the result gives what that gives: "
                       "--i-understand-this-is-not-useful-without-training makes it",
                       err)
                 : LB_OK;
}

/* ---- the kind ---- */

static const char *const kind_names[] = {"Mixtral", "DeepSeek MoE", "Qwen MoE", "Qwen3 MoE"};

const char *lb_moe_kind_name(lb_moe_kind k) {
    return kind_names[k];
}

static bool is_one_of(lb_str s, const char *const *list) {
    for (; *list; list++)
        if (lb_str_eq_c(s, *list))
            return true;
    return false;
}

/* NULL: the kind can be made. */
static const char *why_not(const lb_moe_config *c, lb_moe_kind k, const lb_str *types) {
    static const char *const bases[][4] = {[LB_MOE_MIXTRAL] = {"llama", "mistral"},
                                           [LB_MOE_DEEPSEEK] = {"llama", "mistral"},
                                           [LB_MOE_QWEN] = {"llama", "mistral", "qwen2"},
                                           [LB_MOE_QWEN3] = {"qwen3"}};
    static const char *const models[] = {
        "the models must be llama or mistral", "the models must be llama or mistral",
        "the models must be qwen2, llama or mistral", "the models must be qwen3"};
    const bool prompted = c->n_shared && c->shared[0].n_positive + c->shared[0].n_negative > 0;
    const bool random = c->gate == LB_MOE_RANDOM || c->gate == LB_MOE_UNIFORM_RANDOM;
    if (c->n_shared && (k == LB_MOE_MIXTRAL || k == LB_MOE_QWEN3))
        return "it has no shared experts";
    if (c->n_shared > 1 && k == LB_MOE_DEEPSEEK)
        return "it has one shared expert at most";
    if (prompted && k == LB_MOE_DEEPSEEK)
        return "its shared expert has no gate, so no prompts";
    if (c->n_shared != 1 && k == LB_MOE_QWEN)
        return "it needs one shared expert (shared_experts)";
    if (k == LB_MOE_QWEN && !random && !c->shared[0].n_positive)
        return "its shared expert needs positive_prompts";
    for (u32 i = 0; i < c->refs.n_models; i++) {
        if (!is_one_of(types[i], bases[k]))
            return models[k];
        if (!lb_str_eq(types[i], types[0]))
            return "the models must be of one architecture";
    }
    return NULL;
}

static bool begins(const char *name, lb_str word) {
    for (size_t i = 0; i < word.len; i++) {
        char a = name[i], b = word.ptr[i];
        a = a >= 'A' && a <= 'Z' ? a | 32 : a;
        b = b >= 'A' && b <= 'Z' ? b | 32 : b;
        if (a != b || !a)
            return false;
    }
    return true;
}

static lb_status none_fits(const lb_moe_config *c, const lb_str *types, bool asked, lb_err *err) {
    lb_buf b = {0};
    for (u32 k = 0; k < LB_MOE_KIND_COUNT; k++)
        if (!asked || begins(kind_names[k], c->architecture))
            lb_buf_printf(&b, "%s%s: %s", b.len ? "; " : "", kind_names[k],
                          why_not(c, (lb_moe_kind)k, types));
    lb_status st = lb_fail(err, LB_E_UNSUPPORTED, "%.*s: no kind of mixture can be made: %.*s",
                           LB_FMT(c->refs.what), LB_FMT(lb_buf_str(&b)));
    lb_buf_deinit(&b);
    return st;
}

lb_status lb_moe_choose(const lb_moe_config *c, const lb_str *types, lb_arena *perm,
                        lb_moe_kind *out, const char **note, lb_err *err) {
    const bool asked = c->architecture.len > 0;
    u32 n = 0, n_named = 0;
    *note = NULL;
    for (u32 k = LB_MOE_KIND_COUNT; k-- > 0;) { /* the first of the list counts */
        if (asked && !begins(kind_names[k], c->architecture))
            continue;
        n_named++;
        if (why_not(c, (lb_moe_kind)k, types))
            continue;
        *out = (lb_moe_kind)k;
        n++;
    }
    if (n_named == 0)
        return lb_fail(err, LB_E_FORMAT,
                       "%.*s: line %u: architecture: '%.*s' begins none of Mixtral, DeepSeek MoE, "
                       "Qwen MoE, Qwen3 MoE",
                       LB_FMT(c->refs.what), c->architecture_line, LB_FMT(c->architecture));
    if (n == 0)
        return none_fits(c, types, asked, err);
    if (n > 1 && *out != LB_MOE_MIXTRAL) {
        lb_str s = lb_arena_printf(
            perm, "several kinds of mixture could be made: %s is (architecture: says another)",
            kind_names[*out]);
        *note = s.ptr;
        return s.ptr ? LB_OK : lb_fail(err, LB_E_NOMEM, "out of memory");
    }
    return LB_OK;
}
