/* SPDX-License-Identifier: Apache-2.0 */
/* test_arch_convert.c: tiny models of every family against the reference converter's output
 * (tests/golden/arch/convert.json): every key, type and value before tokenizer.*; the tensor
 * directory with names, order, shapes and types; made tensors; the order of q and k rows. */
#include "arch/arch_config.h"
#include "arch_util.h"
#include "test.h"

static lb_arena arena;
static lb_json *cases;
static lb_err err;

static bool load(void) {
    lb_json *g = cases ? NULL : arch_golden("convert.json", &arena);
    cases = cases ? cases : lb_json_get(g, "cases");
    return cases && cases->n >= 25;
}

typedef struct model {
    const lb_json *c;
    const lb_json *config;
    const lb_arch *arch;
    lb_hparams hp;
    char label[64];
} model;

static bool open_case(const lb_json *c, model *m) {
    lb_str label = arch_str(c, "label");
    m->c = c;
    m->config = arch_text(c, "config", &arena);
    snprintf(m->label, sizeof m->label, "%.*s", LB_FMT(label));
    lb_status st = lb_arch_from_config(m->config, &m->arch, &m->hp, &err);
    if (st != LB_OK)
        lb_test_fail(__FILE__, __LINE__, "%s: %s", m->label, err.msg);
    return st == LB_OK;
}

/* [name, type, shape] */
static bool read_tensor(const lb_json *t, lb_str *name, lb_str *type, lb_shape *shape) {
    const lb_json *v = t->first;
    *shape = (lb_shape){0};
    if (!lb_json_as_str(v, name) || !lb_json_as_str(v = v->next, type))
        return false;
    for (const lb_json *d = v->next->first; d; d = d->next)
        if (!lb_json_as_u64(d, &shape->dim[shape->rank++]))
            return false;
    return true;
}

static u32 file_type(const model *m) {
    u64 ft = 0;
    for (const lb_json *k = lb_json_get(m->c, "kv")->first; k; k = k->next)
        if (lb_str_eq_c(k->first->text, "general.file_type"))
            lb_json_as_u64(k->last, &ft);
    return (u32)ft;
}

static bool is_stack(lb_str name) {
    size_t at;
    return lb_str_find(name, LB_STR("_exps."), &at);
}

static void count_params(const model *m, lb_arch_meta_in *in) {
    for (const lb_json *t = lb_json_get(m->c, "tensors")->first; t; t = t->next) {
        lb_str name, type;
        lb_shape shape;
        u64 e;
        if (!read_tensor(t, &name, &type, &shape) || !lb_shape_elems(&shape, &e))
            continue;
        in->n_params += e;
        if (is_stack(name)) {
            in->n_expert = shape.dim[0];
            in->n_params_expert += e / shape.dim[0];
        } else {
            in->n_params_shared += e;
        }
    }
}

LB_TEST(metadata) {
    CHECK(load());
    for (const lb_json *c = cases->first; c; c = c->next) {
        model m;
        lb_gguf_meta meta;
        CHECK(open_case(c, &m));
        lb_arch_meta_in in = {.config = m.config,
                              .generation = arch_text(c, "generation", &arena),
                              .readme = arch_str(c, "readme"),
                              .label = arch_str(c, "label"),
                              .file_type = file_type(&m)};
        count_params(&m, &in);
        lb_meta_init(&meta, &arena);
        CHECK_OK(lb_arch_meta_from_config(m.arch, &in, &meta, &err));
        /* The reference writes the tokenizer's keys last, here they are text/'s. */
        CHECK(arch_same_meta(m.label, &meta, lb_json_get(c, "kv"), "tokenizer."));
        lb_meta_deinit(&meta);
    }
}

LB_TEST(model_metadata) { /* what inference reads: the same without general.* */
    CHECK(load());
    for (const lb_json *c = cases->first; c; c = c->next) {
        model m;
        lb_gguf_meta meta;
        lb_hparams hp;
        const lb_arch *a;
        CHECK(open_case(c, &m));
        lb_meta_init(&meta, &arena);
        CHECK_OK(lb_arch_meta_model(m.arch, m.config, &meta, &err));
        CHECK_STR(meta.kv[0].key, "general.architecture");
        u64 i = 1;
        for (const lb_json *k = lb_json_get(c, "kv")->first; k; k = k->next) {
            lb_str key = k->first->text;
            if (lb_str_starts(key, LB_STR("general.")) || lb_str_starts(key, LB_STR("tokenizer.")))
                continue;
            CHECK(i < meta.n && arch_same_pair(&meta.kv[i], k));
            i++;
        }
        CHECK_U64(i, meta.n);
        /* and both ways to the parameters agree */
        CHECK_OK(lb_arch_from_gguf(&meta, !m.hp.tied, &a, &hp, &err));
        CHECK(lb_str_eq_c(lb_str_c(lb_arch_name(a)), lb_arch_name(m.arch)));
        CHECK_U64(hp.n_layers, m.hp.n_layers);
        CHECK_U64(hp.n_embd, m.hp.n_embd);
        CHECK_U64(hp.n_ff, m.hp.n_ff);
        CHECK_U64(hp.n_head, m.hp.n_head);
        CHECK_U64(hp.n_head_kv, m.hp.n_head_kv);
        CHECK_U64(hp.head_dim, m.hp.head_dim);
        CHECK_U64(hp.n_ctx, m.hp.n_ctx);
        CHECK(hp.tied == m.hp.tied);
        lb_meta_deinit(&meta);
    }
}

/* The next tensor that is no stack of experts. */
static const lb_json *plain(const lb_json *at) {
    lb_str name;
    while (at && lb_json_as_str(at->first, &name) && is_stack(name))
        at = at->next;
    return at;
}

/* The reference's file has this row's stack, of all experts' matrices. ops/ puts it together:
 * test_assemble. */
static bool has_stack(const model *m, lb_str name) {
    lb_str n, type;
    lb_shape s;
    for (const lb_json *t = lb_json_get(m->c, "tensors")->first; t; t = t->next)
        if (read_tensor(t, &n, &type, &s) && lb_str_eq(n, name))
            return s.rank == 3 && s.dim[0] == m->hp.n_expert;
    return false;
}

/* The next tensor of the reference's file must be this one. */
static bool expect(const model *m, const lb_json **at, lb_str name, const lb_shape *shape, bool f32,
                   bool cut) {
    lb_str want, type, out = arch_str(m->c, "outtype");
    lb_shape s;
    if (!*at || !read_tensor(*at, &want, &type, &s)) {
        lb_test_fail(__FILE__, __LINE__, "%s: '%.*s' is one too many", m->label, LB_FMT(name));
        return false;
    }
    *at = (*at)->next;
    bool same = lb_str_eq(name, want) && s.rank == shape->rank;
    for (u32 i = 0; same && i < s.rank; i++)
        same = s.dim[i] == shape->dim[i] || (i == 0 && cut && s.dim[i] < shape->dim[i]);
    bool is_f32 = lb_str_eq_c(type, "f32");
    if (!lb_str_eq_c(out, "f32"))
        same = same && is_f32 == f32;
    if (!same)
        lb_test_fail(__FILE__, __LINE__, "%s: '%.*s' of rank %u%s, expected '%.*s' %.*s", m->label,
                     LB_FMT(name), shape->rank, f32 ? " f32" : "", LB_FMT(want), LB_FMT(type));
    return same;
}

LB_TEST(tensors) {
    CHECK(load());
    for (const lb_json *c = cases->first; c; c = c->next) {
        model m;
        lb_arch_made_tensor *made;
        lb_arch_seen seen = {0};
        u32 n_made;
        CHECK(open_case(c, &m));
        const lb_json *at = lb_json_get(c, "tensors")->first;
        CHECK_OK(lb_arch_made(m.arch, m.config, &arena, &made, &n_made, &err));
        for (u32 i = 0; i < n_made; i++)
            CHECK(expect(&m, &at, made[i].name, &made[i].shape, true, false));
        for (const lb_json *t = lb_json_get(c, "tensors_in")->first; t; t = t->next) {
            lb_str name, type;
            lb_shape shape;
            lb_arch_match x;
            CHECK(read_tensor(t, &name, &type, &shape));
            if (!lb_arch_find(m.arch, &m.hp, LB_WORLD_HF, name, &x)) {
                lb_test_fail(__FILE__, __LINE__, "%s: '%.*s' is not known", m.label, LB_FMT(name));
                return;
            }
            lb_arch_seen_add(&seen, &x, &shape);
            for (u32 i = 0; i < x.n_rows && (x.row[i].flags & LB_ROW_EXPERT); i++)
                CHECK(has_stack(&m, lb_arch_tensor_name(x.row + i, LB_WORLD_GGUF, &x, &arena)));
            if (x.row->flags & LB_ROW_EXPERT)
                continue;
            CHECK_U64(x.n_rows, 1);
            if (lb_arch_is_dropped(x.row, LB_WORLD_GGUF, &m.hp))
                continue;
            lb_str out = lb_arch_tensor_name(x.row, LB_WORLD_GGUF, &x, &arena);
            at = plain(at);
            CHECK(expect(&m, &at, out, &shape, lb_arch_gguf_is_f32(x.row, x.suffix, shape.rank),
                         (x.row->flags & LB_ROW_CUT_VOCAB) != 0));
            /* and back */
            lb_arch_match y;
            CHECK(lb_arch_find(m.arch, &m.hp, LB_WORLD_GGUF, out, &y));
            CHECK(y.row == x.row && y.layer == x.layer && y.suffix == x.suffix);
            lb_str hf = lb_arch_tensor_name(y.row, LB_WORLD_HF, &y, &arena);
            CHECK(lb_str_ends(name, hf) || lb_str_ends(hf, name));
        }
        CHECK(plain(at) == NULL);
        CHECK_OK(lb_arch_seen_check(m.arch, &m.hp, &seen, LB_WORLD_HF, &err));
    }
}

LB_TEST(made_tensors) {
    CHECK(load());
    u32 n_cases = 0;
    for (const lb_json *c = cases->first; c; c = c->next) {
        model m;
        lb_arch_made_tensor *made;
        u32 n;
        const lb_json *want = lb_json_get(c, "rope_freqs");
        CHECK(open_case(c, &m));
        CHECK_OK(lb_arch_made(m.arch, m.config, &arena, &made, &n, &err));
        CHECK_U64(n, want != NULL);
        if (!want)
            continue;
        CHECK_U64(made[0].shape.dim[0], want->n);
        u64 i = 0, bits;
        for (const lb_json *v = want->first; v; v = v->next, i++) {
            CHECK(lb_json_as_u64(v, &bits));
            CHECK_U64(lb_f32_bits(made[0].values[i]), bits);
        }
        n_cases++;
    }
    CHECK(n_cases >= 3);
}

/* Column 0 of q and k holds the row's number: what stands in row i of the GGUF came from there. */
LB_TEST(row_order) {
    CHECK(load());
    u32 n_permuted = 0;
    for (const lb_json *c = cases->first; c; c = c->next) {
        model m;
        const lb_json *rows = lb_json_get(c, "rows");
        CHECK(open_case(c, &m));
        for (const lb_json *t = rows ? rows->first : NULL; t; t = t->next) {
            lb_arch_match x;
            CHECK(lb_arch_find(m.arch, &m.hp, LB_WORLD_GGUF, t->key, &x));
            u64 heads = lb_arch_relayout_heads(x.row->relayout, &m.hp);
            u64 per_head = heads ? t->n / heads : t->n, half = per_head / 2, i = 0;
            for (const lb_json *v = t->first; v; v = v->next, i++) {
                u64 head = i / per_head, k = i % per_head, got;
                u64 from = heads ? head * per_head + (k % 2) * half + k / 2 : i;
                CHECK(lb_json_as_u64(v, &got));
                CHECK_U64(got, from);
            }
            n_permuted += heads != 0;
        }
    }
    CHECK(n_permuted >= 20);
}

LB_TEST_MAIN("fast")
