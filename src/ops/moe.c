/* SPDX-License-Identifier: Apache-2.0 */
/* moe.c: see moe.h. Source: scripts/moe.py and moe/ of mergekit 0.1.5.
 *
 * What of the base is not a feed-forward layer is taken as it is, whatever it is, if the family of
 * the result has a place for it; of the experts the feed-forward layers. All else is listed. */
#include "ops/moe.h"
#include "arch/arch_config.h"
#include "base/os.h"
#include "ops/hf_texts.h"
#include "ops/merge_view.h"
#include "ops/moe_gates.h"

#define FILE_BYTES_MAX (4 * LB_MIB)
#define DEGENERATE 5.0 /* mergekit's limit of the condition number of a router */

typedef enum item_kind {
    ITEM_BASE,
    ITEM_EXPERT,
    ITEM_ROUTER,
    ITEM_SHARED_GATE,
    ITEM_ZERO
} item_kind;

/* What a tensor of the result is. */
typedef struct item {
    u8 kind;         /* item_kind */
    u8 part;         /* EXPERT: lb_moe_part */
    u32 model, fact; /* BASE, EXPERT: in the views */
    u32 layer;
    const lb_moe_expert *expert;
} item;

/* What lb_source.computed of a mixture points to. */
typedef struct moe {
    lb_computed computed; /* first */
    lb_moe_opts opts;
    lb_moe_config config;
    lb_moe_kind kind;
    const lb_moe_form *form;
    lb_str text;
    lb_dtype dtype;
    item *items; /* [n_weights of the source] */
    u64 n_items, cap_items;
    u64 n_layers, n_embd, n_ff;
    u64 n_gates; /* of a layer, the shared expert's behind the others' */
    u32 embed;   /* fact of the base's embedding */
    lb_moe_prompts prompts;
    float *states; /* hidden: of the base */
} moe;

static lb_status oom(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for a mixture of experts");
}

bool lb_moe_is_file(const char *path) {
    lb_arena a = {.max_bytes = 2 * FILE_BYTES_MAX};
    lb_str text;
    lb_fstat st;
    bool is = lb_merge_is_file(path) && lb_os_stat(path, &st, NULL) == LB_OK && st.is_file &&
              lb_os_read_file(path, FILE_BYTES_MAX, &a, &text, NULL) == LB_OK &&
              lb_moe_is_config(text);
    lb_arena_deinit(&a);
    return is;
}

/* ---- the models ---- */

static lb_status open_models(lb_source *s, const moe *m, lb_err *err) {
    const lb_merge_config *c = &m->config.refs;
    const lb_merge_opts o = {.around = m->opts.around, .seed = m->opts.seed};
    LB_TRY(lb_computed_room(s, c->n_models, err));
    for (u32 i = 0; i < c->n_models; i++) {
        lb_source *input = NULL;
        LB_TRY(lb_merge_open_ref(&input, s, &c->models[i], &o, err));
        lb_computed_take(s, &input);
    }
    return LB_OK;
}

static void free_views(lb_merge_view *v, u32 n) {
    for (u32 i = 0; v && i < n; i++)
        lb_merge_view_deinit(&v[i]);
}

/* Of all inputs of source `index`; *out to be freed in any case. */
static lb_status make_views(lb_plan *p, u32 index, const lb_merge_config *c, lb_merge_view **out,
                            lb_err *err) {
    static const lb_merge_view by_table = {0}; /* names as the tables have them */
    lb_merge_view *v = *out = lb_arena_new(&p->perm, lb_merge_view, c->n_models + 1);
    if (!v)
        return oom(err);
    memset(v, 0, c->n_models * sizeof *v);
    for (u32 i = 0; i < c->n_models; i++) {
        lb_status st = lb_merge_view_make(p, lb_computed_input(p, index, i), &by_table, &v[i], err);
        if (st == LB_OK && !v[i].canon.arch)
            st = lb_fail(err, LB_E_UNSUPPORTED, "%s", v[i].canon.arch_err.msg);
        if (st != LB_OK) {
            lb_err_context(err, "%.*s", LB_FMT(c->models[i].text));
            return st;
        }
    }
    return LB_OK;
}

static lb_str model_type(const lb_json *config) {
    lb_str type = LB_STR_NONE;
    (void)lb_json_as_str(lb_json_get(config, "model_type"), &type);
    return type;
}

/* A GGUF has one architecture for several model_types, of which the base's counts. */
static lb_str type_of(const lb_merge_view *v, const lb_merge_view *base, lb_str base_type) {
    const char *family = "";
    if (v->canon.config || !v->canon.arch)
        return model_type(v->canon.config);
    if (base->canon.arch &&
        strcmp(lb_arch_name(base->canon.arch), lb_arch_name(v->canon.arch)) == 0)
        return base_type;
    for (u32 i = 0; lb_arch_at(i, &family); i++)
        if (lb_arch_at(i, &family) == v->canon.arch)
            return lb_str_c(family);
    return LB_STR_NONE;
}

static lb_status choose_kind(moe *m, lb_source *s, const lb_merge_view *v, const char **note,
                             lb_err *err) {
    const u32 n = m->config.refs.n_models;
    lb_str *types = lb_arena_new(&s->perm, lb_str, n + 1);
    lb_json *config = NULL;
    if (!types)
        return oom(err);
    if (s->config.len)
        LB_TRY(lb_json_parse(s->config, "config.json", &s->perm, &config, err));
    for (u32 i = 0; i < n; i++)
        types[i] = i ? type_of(&v[i], v, types[0]) : model_type(config);
    LB_TRY(lb_moe_choose(&m->config, types, &s->perm, &m->kind, note, err));
    m->form = lb_moe_form_of(m->kind);
    return LB_OK;
}

/* ---- what the result has ---- */

typedef struct listing {
    lb_source *s;
    moe *m;
    const lb_merge_view *v; /* [n_models] */
    const lb_arch *target;  /* whose table says what has a place */
    lb_hparams hp;
    bool *taken; /* of the base's facts */
    lb_err *err;
} listing;

static lb_str model_name(const listing *l, u32 model) {
    return l->m->config.refs.models[model].text;
}

static lb_status push(listing *l, const item *it, lb_str name, const lb_shape *shape) {
    moe *m = l->m;
    if (m->n_items == m->cap_items) {
        u64 cap = m->cap_items ? 2 * m->cap_items : 256;
        item *more = lb_arena_new(&l->s->perm, item, cap);
        if (!more)
            return oom(l->err);
        if (m->n_items)
            memcpy(more, m->items, m->n_items * sizeof *more);
        m->items = more;
        m->cap_items = cap;
    }
    m->items[m->n_items++] = *it;
    name = lb_arena_str(&l->s->perm, name);
    return name.ptr ? lb_source_add_computed(l->s, name, m->dtype, shape, l->err) : oom(l->err);
}

static u32 find_fact(const lb_merge_view *v, lb_str name) {
    u32 lo = 0, hi = v->n;
    while (lo < hi) {
        u32 mid = lo + (hi - lo) / 2;
        int c = lb_str_cmp(v->facts[mid].name, name);
        if (c == 0)
            return mid;
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return LB_NO_FACT;
}

/* A feed-forward matrix of a model, which must be there. */
static lb_status get_part(const listing *l, u32 model, u32 layer, lb_moe_part p, u32 *fact) {
    lb_str name = lb_moe_source_name(layer, p, &l->s->perm);
    if (!name.ptr)
        return oom(l->err);
    *fact = find_fact(&l->v[model], name);
    if (*fact != LB_NO_FACT)
        return LB_OK;
    return lb_fail(l->err, LB_E_FORMAT, "'%.*s' has no tensor '%.*s'", LB_FMT(model_name(l, model)),
                   LB_FMT(name));
}

/* All experts' matrices are of the first one's size, on the base's hidden size. */
static lb_status check_part(const listing *l, u32 model, u32 fact, lb_moe_part p) {
    const lb_merge_fact *f = &l->v[model].facts[fact];
    const u64 rows = p == LB_MOE_DOWN ? l->m->n_embd : l->m->n_ff;
    const u64 cols = p == LB_MOE_DOWN ? l->m->n_ff : l->m->n_embd;
    const lb_shape want = {2, {rows, cols}};
    char has[LB_SHAPE_TEXT], wants[LB_SHAPE_TEXT];
    if (lb_shape_eq(&f->shape, &want))
        return LB_OK;
    return lb_fail(l->err, LB_E_FORMAT,
                   "tensor '%.*s' of '%.*s' is %s: %s is needed, by the base's hidden size and the "
                   "first expert",
                   LB_FMT(f->name), LB_FMT(model_name(l, model)), lb_shape_text(&f->shape, has),
                   lb_shape_text(&want, wants));
}

static lb_status push_part(listing *l, const lb_moe_expert *e, u32 layer, lb_moe_part p,
                           lb_str name) {
    item it = {.kind = ITEM_EXPERT, .part = (u8)p, .model = e->model, .layer = layer, .expert = e};
    LB_TRY(get_part(l, e->model, layer, p, &it.fact));
    LB_TRY(check_part(l, e->model, it.fact, p));
    if (e->model == 0)
        l->taken[it.fact] = true;
    return name.ptr ? push(l, &it, name, &l->v[e->model].facts[it.fact].shape) : oom(l->err);
}

static lb_status push_layer(listing *l, u32 layer) {
    moe *m = l->m;
    const lb_moe_config *c = &m->config;
    lb_arena *perm = &l->s->perm;
    const lb_shape router = {2, {c->n_experts, m->n_embd}}, one = {2, {1, m->n_embd}};
    for (u32 e = 0; e < c->n_experts; e++)
        for (u32 p = 0; p < LB_MOE_PARTS; p++)
            LB_TRY(push_part(l, &c->experts[e], layer, (lb_moe_part)p,
                             lb_moe_expert_name(m->form, layer, e, (lb_moe_part)p, perm)));
    for (u32 p = 0; p < LB_MOE_PARTS && c->n_shared; p++)
        LB_TRY(push_part(l, &c->shared[0], layer, (lb_moe_part)p,
                         lb_moe_shared_name(m->form, layer, (lb_moe_part)p, perm)));
    lb_str name = lb_moe_router_name(m->form, layer, perm);
    LB_TRY(name.ptr ? push(l, &(item){.kind = ITEM_ROUTER, .layer = layer}, name, &router)
                    : oom(l->err));
    if (!m->form->shared_gate)
        return LB_OK;
    name = lb_moe_shared_gate_name(m->form, layer, perm);
    return name.ptr ? push(l, &(item){.kind = ITEM_SHARED_GATE, .layer = layer}, name, &one)
                    : oom(l->err);
}

/* q, k and v have biases in the result; the base has none: zeros, which change nothing. */
static lb_status push_zeros(listing *l, const lb_merge_fact *weight) {
    static const char *const ends[] = {"q_proj.weight", "k_proj.weight", "v_proj.weight"};
    const lb_str w = LB_STR("weight");
    bool is = false;
    for (u32 i = 0; i < LB_LEN(ends); i++)
        is |= lb_str_ends(weight->name, lb_str_c(ends[i]));
    if (!l->m->form->qkv_bias || !is)
        return LB_OK;
    lb_str name =
        lb_arena_printf(&l->s->perm, "%.*sbias", (int)(weight->name.len - w.len), weight->name.ptr);
    const lb_shape shape = {1, {weight->shape.dim[0]}};
    if (!name.ptr)
        return oom(l->err);
    if (find_fact(&l->v[0], name) != LB_NO_FACT)
        return LB_OK;
    return push(l, &(item){.kind = ITEM_ZERO}, name, &shape);
}

static bool is_feed_forward(const lb_merge_fact *f) {
    size_t at;
    return f->layer != LB_NO_LAYER && lb_str_find(f->name, LB_STR(".mlp."), &at);
}

/* What is no feed-forward layer. */
static lb_status push_base(listing *l) {
    const lb_merge_view *v = &l->v[0];
    for (u32 i = 0; i < v->n; i++) {
        const lb_merge_fact *f = &v->facts[i];
        lb_arch_match match;
        bool weight = lb_str_ends(f->name, LB_STR(".weight"));
        if (f->same_as != LB_NO_FACT || (is_feed_forward(f) && weight))
            continue;
        if (!lb_arch_find(l->target, &l->hp, LB_WORLD_HF, f->name, &match) ||
            (is_feed_forward(f) && !weight))
            return lb_fail(l->err, LB_E_UNSUPPORTED,
                           "tensor '%.*s' of '%.*s' has no place in a model of the kind %s",
                           LB_FMT(f->name), LB_FMT(model_name(l, 0)), lb_moe_kind_name(l->m->kind));
        l->taken[i] = true;
        LB_TRY(
            push(l, &(item){.kind = ITEM_BASE, .fact = i, .layer = f->layer}, f->name, &f->shape));
        LB_TRY(push_zeros(l, f));
    }
    return LB_OK;
}

static const lb_arch *family_named(const char *name) {
    const char *family;
    for (u32 i = 0; lb_arch_at(i, &family); i++)
        if (strcmp(family, name) == 0)
            return lb_arch_at(i, &family);
    return NULL;
}

/* Numbers of the base and the first expert that all others must share. */
static lb_status read_sizes(listing *l) {
    moe *m = l->m;
    const lb_merge_view *base = &l->v[0];
    const lb_hparams *hp = &base->canon.hp;
    u32 fact;
    m->n_layers = base->n_layers;
    m->n_embd = hp->n_embd;
    if (m->form->plain_heads && hp->head_dim && hp->head_dim * hp->n_head != hp->n_embd)
        return lb_fail(l->err, LB_E_UNSUPPORTED,
                       "'%.*s' has %llu heads of %llu on a hidden size of %llu: %s knows heads of "
                       "hidden size / heads only",
                       LB_FMT(model_name(l, 0)), (unsigned long long)hp->n_head,
                       (unsigned long long)hp->head_dim, (unsigned long long)hp->n_embd,
                       lb_moe_kind_name(m->kind));
    for (u32 i = 1; i < m->config.refs.n_models; i++)
        if (l->v[i].n_layers != m->n_layers)
            return lb_fail(l->err, LB_E_FORMAT, "'%.*s' has %llu layers, '%.*s' %llu",
                           LB_FMT(model_name(l, i)), (unsigned long long)l->v[i].n_layers,
                           LB_FMT(model_name(l, 0)), (unsigned long long)m->n_layers);
    LB_TRY(get_part(l, m->config.experts[0].model, 0, LB_MOE_GATE, &fact));
    m->n_ff = l->v[m->config.experts[0].model].facts[fact].shape.dim[0];
    for (m->embed = 0; m->embed < base->n; m->embed++)
        if (base->facts[m->embed].is_vocab && !base->facts[m->embed].after)
            return LB_OK;
    return lb_fail(l->err, LB_E_FORMAT, "'%.*s' has no embedding", LB_FMT(model_name(l, 0)));
}

/* mergekit's: the file's, else the config's of the base. */
static lb_dtype result_type(const lb_moe_config *c, const lb_merge_view *base) {
    static const char *const keys[] = {"dtype", "torch_dtype"};
    static const char *const names[] = {"bfloat16", "float16", "float32"};
    static const lb_dtype types[] = {LB_BF16, LB_F16, LB_F32};
    lb_str s;
    if (c->refs.has_dtype)
        return c->refs.dtype;
    for (u32 i = 0; i < LB_LEN(keys); i++)
        for (u32 k = 0; k < LB_LEN(names); k++)
            if (lb_json_as_str(lb_json_get(base->canon.config, keys[i]), &s) &&
                lb_str_eq_c(s, names[k]))
                return types[k];
    return base->canon.main_dtype;
}

static lb_status list_tensors(listing *l) {
    moe *m = l->m;
    l->target = family_named(m->form->family);
    l->hp = l->v[0].canon.hp;
    l->taken = lb_arena_new(&l->s->perm, bool, l->v[0].n + 1);
    if (!l->taken)
        return oom(l->err);
    memset(l->taken, 0, l->v[0].n * sizeof *l->taken);
    LB_TRY(read_sizes(l));
    m->dtype = result_type(&m->config, &l->v[0]);
    LB_TRY(push_base(l));
    for (u32 i = 0; i < m->n_layers; i++)
        LB_TRY(push_layer(l, i));
    return LB_OK;
}

/* ---- what is said ---- */

static void say_left_out(const listing *l, lb_buf *b) {
    const lb_merge_config *c = &l->m->config.refs;
    for (u32 i = 0; i < c->n_models; i++) {
        u64 n = 0;
        for (u32 k = 0; k < l->v[i].n; k++) {
            const lb_merge_fact *f = &l->v[i].facts[k];
            n += f->same_as == LB_NO_FACT && (i ? !is_feed_forward(f) : !l->taken[k]);
        }
        if (n)
            lb_buf_printf(b, "left out: %llu tensors of %.*s (%s)\n", (unsigned long long)n,
                          LB_FMT(c->models[i].text),
                          i ? "all but its feed-forward layers" : "its feed-forward layers");
    }
}

static void say_vocabularies(const listing *l, lb_buf *b) {
    const u64 rows = l->v[0].canon.hp.n_vocab;
    for (u32 i = 1; i < l->m->config.refs.n_models; i++)
        if (l->v[i].canon.hp.n_vocab != rows)
            lb_buf_printf(b,
                          "%.*s has %llu tokens, the base, whose tokenizer the result has, %llu\n",
                          LB_FMT(model_name(l, i)), (unsigned long long)l->v[i].canon.hp.n_vocab,
                          (unsigned long long)rows);
}

/* "layer 3", "2 layers, the first 0" */
static void say_degenerate(u64 n, u64 n_layers, u64 first, lb_buf *b) {
    if (n == n_layers)
        lb_buf_put_c(b, "ALL layers have");
    else if (n == 1)
        lb_buf_printf(b, "layer %llu has", (unsigned long long)first);
    else
        lb_buf_printf(b, "%llu layers, the first %llu, have", (unsigned long long)n,
                      (unsigned long long)first);
    lb_buf_put_c(b, " degenerate routers: the prompts may be too similar, and some experts will "
                    "hardly be used\n");
}

static lb_moe_gates gates_of(const moe *m) {
    return (lb_moe_gates){.mode = m->config.gate,
                          .seed = m->opts.seed,
                          .n_gates = m->n_gates,
                          .n_layers = m->n_layers,
                          .n_cols = m->n_embd,
                          .prompts = &m->prompts,
                          .states = m->states};
}

/* Routers of prompts are one for all layers. Random ones of so many columns are far from it. */
static lb_status check_gates(const listing *l, lb_plan *p, lb_buf *b) {
    const moe *m = l->m;
    const bool same = m->config.gate == LB_MOE_CHEAP_EMBED;
    const bool drawn = !lb_moe_gate_reads_prompts(m->config.gate);
    const u64 n_layers = same ? 1 : m->n_layers;
    u64 bad = 0, first = 0;
    lb_moe_gates g = gates_of(m);
    if (drawn && 4 * m->n_gates < m->n_embd)
        return LB_OK;
    if (m->n_gates > LB_GRAM_MAX) {
        lb_buf_printf(b,
                      "whether the routers tell %llu experts apart is not looked at: of more "
                      "than %d it is not\n",
                      (unsigned long long)m->n_gates, LB_GRAM_MAX);
        return LB_OK;
    }
    lb_moe_gates_begin(&g, p, l->v[0].nodes[m->embed]);
    for (u64 i = 0; i < n_layers; i++) {
        double c;
        lb_node_id x = lb_moe_gates_of(&g, p, i, 0, m->n_gates);
        LB_TRY(lb_graph_status(&p->graph, l->err));
        LB_TRY(lb_moe_condition(p, x, &c, l->err));
        if (!(c > DEGENERATE))
            continue;
        first = bad++ ? first : i;
    }
    if (bad)
        say_degenerate(same ? m->n_layers : bad, m->n_layers, first, b);
    return LB_OK;
}

static bool is_power_of_two(u64 n) {
    return (n & (n - 1)) == 0;
}

static lb_status say(const listing *l, lb_plan *p, const char *note, lb_buf *b) {
    const moe *m = l->m;
    for (u32 i = 0; i < m->config.refs.n_notes; i++)
        lb_buf_printf(b, "%.*s\n", LB_FMT(m->config.refs.notes[i]));
    if (note)
        lb_buf_printf(b, "%s\n", note);
    if (!is_power_of_two(m->config.n_experts) && m->kind != LB_MOE_DEEPSEEK)
        lb_buf_printf(b, "%u experts are no power of two: some programs want one\n",
                      m->config.n_experts);
    say_left_out(l, b);
    say_vocabularies(l, b);
    return check_gates(l, p, b);
}

/* ---- config and other files ---- */

static lb_status make_config(lb_source *s, const moe *m, lb_err *err) {
    lb_json *config, *full;
    const lb_moe_facts facts = {.n_ff = m->n_ff,
                                .dtype = m->dtype == LB_BF16  ? LB_STR("bfloat16")
                                         : m->dtype == LB_F16 ? LB_STR("float16")
                                                              : LB_STR("float32")};
    LB_TRY(lb_computed_side(s, LB_STR("mergekit_moe_config.yml"), m->text, true, err));
    LB_TRY(lb_json_parse(s->config, "config.json", &s->perm, &config, err));
    LB_TRY(lb_arch_config_full(config, &s->perm, &full, err));
    return lb_moe_config_json(&m->config, m->kind, &facts, full, &s->perm, &s->config, err);
}

/* ---- opening ---- */

static lb_status read_prompts(lb_source *s, moe *m, const lb_merge_view *v, lb_err *err) {
    lb_moe_lists lists;
    const lb_moe_gates shape = gates_of(m);
    LB_TRY(lb_moe_lists_read(&m->config, s->inputs[0], v[0].facts[m->embed].shape.dim[0], &s->perm,
                             &lists, err));
    if (lb_moe_gate_reads_states(m->config.gate))
        return lb_moe_states_read(&lists,
                                  &(lb_moe_states_in){.base = s->inputs[0],
                                                      .mode = m->config.gate,
                                                      .shape = &shape,
                                                      .limits = m->opts.limits},
                                  &s->perm, &m->states, err);
    return lb_moe_prompts_count(&lists, &s->perm, &m->prompts, err);
}

/* The base gives config and tokenizer, and with them what its model_type is. */
static lb_status describe(lb_source *s, moe *m, lb_plan *p, const lb_merge_view *v, lb_buf *notes,
                          lb_err *err) {
    const lb_moe_config *c = &m->config;
    const char *note;
    listing l = {.s = s, .m = m, .v = v, .err = err};
    LB_TRY(lb_hf_texts_take(s, s->inputs[0], &v[0].canon, notes, err));
    LB_TRY(choose_kind(m, s, v, &note, err));
    m->n_gates = (u64)c->n_experts +
                 (c->n_shared && (!lb_moe_gate_reads_prompts(c->gate) || c->shared[0].n_positive)
                      ? c->n_shared
                      : 0);
    LB_TRY(list_tensors(&l));
    if (lb_moe_gate_reads_prompts(c->gate))
        LB_TRY(read_prompts(s, m, v, err));
    LB_TRY(say(&l, p, note, notes));
    LB_TRY(lb_computed_notes(s, notes, err));
    return make_config(s, m, err);
}

static lb_status fill_in(lb_source *s, moe *m, lb_plan *p, lb_merge_view **views, lb_err *err) {
    lb_buf notes = {0};
    LB_TRY(make_views(p, 0, &m->config.refs, views, err));
    lb_status st = describe(s, m, p, *views, &notes, err);
    lb_buf_deinit(&notes);
    return st;
}

static lb_status open_file(lb_source *s, moe *m, const char *path, lb_err *err) {
    lb_plan *p = NULL;
    lb_merge_view *views = NULL;
    LB_TRY(lb_os_read_file(path, FILE_BYTES_MAX, &s->perm, &m->text, err));
    LB_TRY(lb_moe_config_parse(m->text, path, &s->perm, &m->config, err));
    LB_TRY(lb_moe_config_check(&m->config, m->opts.all_same, err));
    LB_TRY(open_models(s, m, err));
    lb_status st = lb_computed_plan(&p, s, err);
    if (st == LB_OK)
        st = fill_in(s, m, p, &views, err);
    free_views(views, m->config.refs.n_models);
    lb_plan_free(&p);
    return st;
}

static lb_status bind(const lb_computed *c, lb_plan *p, u32 index, lb_node_id *nodes, lb_err *err);

static lb_status card(const lb_computed *c, lb_str name, lb_buf *out, lb_err *err) {
    const moe *m = (const moe *)(const void *)c;
    return lb_moe_card(name, &m->config, m->kind, m->text, out, err);
}

lb_status lb_moe_open(lb_source **out, const char *path, const lb_moe_opts *o, lb_err *err) {
    moe *m = NULL;
    lb_status st = lb_computed_new(out, NULL, path, path, err);
    if (st == LB_OK) {
        m = lb_arena_new(&(*out)->perm, moe, 1);
        st = m ? LB_OK : oom(err);
    }
    if (st == LB_OK) {
        *m = (moe){.computed = {.bind = bind, .card = card, .has_base = true}, .opts = *o};
        (*out)->computed = &m->computed;
        st = open_file(*out, m, path, err);
    }
    if (st != LB_OK) {
        size_t at;
        if (!lb_str_find(lb_str_c(err->msg), lb_str_c(path), &at))
            lb_err_context(err, "%s", path);
        lb_source_close(out);
    }
    return st;
}

/* ---- nodes ---- */

/* Of the noise of a tensor: a stream of its own, by its name. */
static const lb_draw *noise_of(const moe *m, lb_str name, lb_arena *perm) {
    lb_draw *d = lb_arena_new(perm, lb_draw, 1);
    if (d)
        *d = (lb_draw){.kind = LB_DRAW_NORMAL,
                       .seed = m->opts.seed,
                       .stream = lb_xxh128(name.ptr, name.len).lo};
    return d;
}

static lb_node_id expert_node(lb_plan *p, const moe *m, const item *it, lb_str name, lb_node_id x) {
    lb_graph *g = &p->graph;
    const lb_moe_expert *e = it->expert;
    const bool scaled = it->part == LB_MOE_DOWN && e->residual_scale != 1;
    if (e->noise_scale == 0 && !scaled)
        return x;
    x = lb_expr_decode(g, x);
    if (e->noise_scale != 0 && x != LB_NODE_NONE) {
        const lb_node *n = lb_graph_node(g, x);
        lb_node_id noise = lb_expr_draw(g, n->n_rows, n->n_cols, noise_of(m, name, &p->perm));
        x = lb_expr_map2(g, LB_MAP_FMA_C, noise, x, LB_CONST(e->noise_scale));
    }
    return scaled ? lb_expr_map1(g, LB_MAP_MUL_C, x, LB_CONST(e->residual_scale)) : x;
}

typedef struct binding {
    lb_plan *plan;
    const moe *m;
    const lb_merge_view *v; /* [n_models] */
    lb_moe_gates gates;
    lb_err *err;
} binding;

static lb_node_id stored_node(const binding *b, const item *it) {
    return b->v[it->model].nodes[it->fact];
}

static lb_node_id node_of(binding *b, const lb_tensor *t, const item *it) {
    const u32 n_experts = b->m->config.n_experts;
    switch ((item_kind)it->kind) {
    case ITEM_BASE:
        return stored_node(b, it);
    case ITEM_EXPERT:
        return expert_node(b->plan, b->m, it, t->name, stored_node(b, it));
    case ITEM_ROUTER:
        return lb_moe_gates_of(&b->gates, b->plan, it->layer, 0, n_experts);
    case ITEM_SHARED_GATE:
        return lb_moe_gates_of(&b->gates, b->plan, it->layer, n_experts, 1);
    case ITEM_ZERO:
        return lb_expr_fill(&b->plan->graph, 1, t->n_elems, 0);
    }
    return LB_NODE_NONE;
}

static lb_status bind_all(binding *b, const lb_source *s, lb_node_id *nodes) {
    lb_graph *g = &b->plan->graph;
    lb_moe_gates_begin(&b->gates, b->plan, b->v[0].nodes[b->m->embed]);
    for (u64 i = 0; i < s->n_weights; i++) {
        nodes[i] = node_of(b, &s->tensors[i], &b->m->items[i]);
        LB_TRY(lb_graph_status(g, b->err));
        if (!lb_expr_is_stored_as(g, nodes[i], s->tensors[i].dtype))
            nodes[i] = lb_expr_decode(g, nodes[i]);
    }
    return lb_graph_status(g, b->err);
}

static lb_status bind(const lb_computed *c, lb_plan *p, u32 index, lb_node_id *nodes, lb_err *err) {
    const moe *m = (const moe *)(const void *)c;
    lb_merge_view *v = NULL;
    lb_status st = make_views(p, index, &m->config.refs, &v, err);
    binding b = {.plan = p, .m = m, .v = v, .gates = gates_of(m), .err = err};
    if (st == LB_OK)
        st = bind_all(&b, p->graph.sources[index], nodes);
    free_views(v, m->config.refs.n_models);
    return st;
}
