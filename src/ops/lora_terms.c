/* SPDX-License-Identifier: Apache-2.0 */
/* lora_terms.c: which tensors of a base model an adapter changes. What it makes of them stands in
 * lora_nodes.c. */
#include "ops/lora_terms.h"
#include "ops/lora_nodes.h"

static lb_status oom(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for the tensors of an adapter");
}

/* ---- keys ---- */

/* A matrix is the same whatever form its row is of: where GGUF has a name for it, that. */
static lb_str canonical_key(lb_arena *a, const lb_arch_tensor *row, const lb_arch_match *m) {
    lb_arch_match bare = *m;
    bare.expert = LB_NO_INDEX;
    bool gguf = row->gguf.len != 0;
    size_t at;
    if (!gguf && lb_str_find(row->hf, LB_STR("{e}"), &at))
        bare.expert = 0;
    lb_str name = lb_arch_tensor_name(row, gguf ? LB_WORLD_GGUF : LB_WORLD_HF, &bare, a);
    return name.ptr ? lb_arena_printf(a, "K%u %.*s", (unsigned)row->role, LB_FMT(name)) : name;
}

/* A stored tensor under its first name in Hugging Face's form. */
static lb_str stored_key(lb_arena *a, lb_str name, const lb_arch_match *m) {
    lb_str first = m ? lb_arch_tensor_name(m->row, LB_WORLD_HF, m, a) : name;
    return first.ptr ? lb_arena_printf(a, "S %.*s", LB_FMT(first)) : first;
}

/* Whether adapters name tensors as the base stores them. */
static bool has_stored_names(const lb_ctensors *base) {
    return base->world == LB_WORLD_HF || !base->arch;
}

static lb_str stored_key_of(lb_arena *a, const lb_ctensors *base, const lb_ctensor *x) {
    return stored_key(a, base->source->weights[x->weight].name, x->known ? &x->match : NULL);
}

static lb_status add_term(lb_lora_terms *t, lb_str key, const lb_lora_term *term, lb_err *err) {
    u64 k = t->n;
    bool existed;
    if (!key.ptr)
        return oom(err);
    if (t->n == t->cap) {
        u64 cap = t->cap ? 2 * t->cap : 64;
        lb_lora_term *n = lb_realloc(t->terms, (size_t)cap * sizeof *n);
        if (!n)
            return oom(err);
        t->terms = n;
        t->cap = cap;
    }
    t->terms[t->n] = *term;
    t->terms[t->n].next = UINT64_MAX;
    t->n++;
    LB_TRY(lb_map_put(&t->first, key, k, &existed, err));
    if (!existed)
        return LB_OK;
    (void)lb_map_find(&t->first, key, &k);
    while (t->terms[k].next != UINT64_MAX)
        k = t->terms[k].next;
    t->terms[k].next = t->n - 1;
    return LB_OK;
}

/* ---- finding ---- */

typedef struct maker {
    lb_lora_terms *t;
    const lb_ctensors *base;
    lb_map stored; /* keys of the base's tensors in Hugging Face's form */
    u32 adapter;
    lb_world world; /* the adapter's */
} maker;

static lb_status list_stored(maker *m, lb_err *err) {
    bool existed;
    for (u64 i = 0; i < m->base->n_tensors && has_stored_names(m->base); i++) {
        const lb_ctensor *x = &m->base->tensors[i];
        if (!x->first_row)
            continue;
        lb_str key = stored_key_of(&m->t->keys, m->base, x);
        if (!key.ptr)
            return oom(err);
        LB_TRY(lb_map_put(&m->stored, key, i, &existed, err));
    }
    return LB_OK;
}

static bool ties(const maker *m, const lb_lora_term *term, const lb_arch_tensor *row) {
    return row && row->role == LB_ROLE_TOKEN_EMBD &&
           (m->t->in[m->adapter].adapter->ties || term->what == LB_LORA_ROWS ||
            (term->what == LB_LORA_VALUE && term->value->is_base));
}

/* transformers 5 holds experts that checkpoints have one by one as parameters of one module: gate
 * over up, and down. The rows of those roles, of that layer. */
static u32 find_experts(const lb_arch *a, lb_str name, lb_arch_match out[LB_LORA_ROWS_MAX]) {
    static const struct {
        const char *parameter;
        lb_role role[2];
    } of[] = {{".gate_up_proj", {LB_ROLE_FFN_GATE_EXPS, LB_ROLE_FFN_UP_EXPS}},
              {".down_proj", {LB_ROLE_FFN_DOWN_EXPS, LB_ROLE_COUNT}}};
    size_t at, in;
    u64 layer = 0;
    u32 n = 0, n_found = 0;
    const lb_arch_tensor *rows = lb_arch_rows(a, &n);
    if (!lb_str_find(name, LB_STR("layers."), &at) || !lb_str_find(name, LB_STR(".experts."), &in))
        return 0;
    for (at += 7; at < name.len && name.ptr[at] >= '0' && name.ptr[at] <= '9' && layer < 100000;)
        layer = 10 * layer + (u64)(name.ptr[at++] - '0');
    for (size_t k = 0; k < LB_LEN(of); k++)
        for (u32 j = 0; j < 2 && lb_str_ends(name, lb_str_c(of[k].parameter)); j++)
            for (u32 i = 0; i < n; i++) {
                if (rows[i].role != of[k].role[j] ||
                    (rows[i].flags & (LB_ROW_MTP | LB_ROW_HF_CODES)))
                    continue;
                u8 suffix = rows[i].suffixes & LB_SUFFIX_NONE ? LB_SUFFIX_NONE : LB_SUFFIX_WEIGHT;
                out[n_found++] = (lb_arch_match){.row = &rows[i],
                                                 .n_rows = 1,
                                                 .layer = (u32)layer,
                                                 .expert = LB_NO_INDEX,
                                                 .mtp = LB_NO_INDEX,
                                                 .suffix = suffix};
                break;
            }
    return n_found;
}

u32 lb_lora_find_rows(const lb_arch *a, const lb_hparams *hp, lb_world world, lb_str name,
                      lb_arch_match out[LB_LORA_ROWS_MAX]) {
    lb_arch_match m;
    if (!lb_arch_find(a, hp, world, name, &m))
        return world == LB_WORLD_HF ? find_experts(a, name, out) : 0;
    u32 n = LB_MIN(m.n_rows, (u32)LB_LORA_ROWS_MAX);
    for (u32 i = 0; i < n; i++) {
        out[i] = m;
        out[i].row = m.row + i;
        out[i].n_rows = 1;
    }
    return n;
}

/* ---- what stands beside the language model ---- */

static lb_str first_word(lb_str *s) {
    size_t at = s->len;
    (void)lb_str_find(*s, LB_STR("."), &at);
    lb_str word = lb_str_sub(*s, 0, at);
    *s = lb_str_sub(*s, at + 1, s->len);
    return word;
}

/* Whether the words of few are words of many, in their order, the first and last the same. */
static bool is_within(lb_str few, lb_str many) {
    lb_str word = first_word(&few), at = first_word(&many);
    if (!lb_str_eq(word, at))
        return false;
    while (few.len && many.len) {
        word = first_word(&few);
        do
            at = first_word(&many);
        while (!lb_str_eq(word, at) && many.len);
    }
    return few.len == 0 && many.len == 0 && lb_str_eq(word, at);
}

static lb_str without_model(lb_str name) {
    return lb_str_starts(name, LB_STR("model.")) ? lb_str_sub(name, 6, name.len) : name;
}

/* Towers are no rows of the table, and checkpoints have more or fewer words in their names than
 * transformers' classes. The one tensor whose name fits; NULL: none, or several. */
static const lb_ctensor *find_beside(const lb_ctensors *base, lb_str name) {
    const lb_ctensor *found = NULL;
    if (!base->n_extra[LB_EXTRA_VISION] && !base->n_extra[LB_EXTRA_AUDIO])
        return NULL;
    name = without_model(name);
    for (u64 i = 0; i < base->n_tensors; i++) {
        const lb_ctensor *x = &base->tensors[i];
        lb_str stored = without_model(base->source->weights[x->weight].name);
        if (x->known || !lb_extra_is_beside((lb_extra)x->extra) ||
            (!is_within(name, stored) && !is_within(stored, name)))
            continue;
        if (found)
            return NULL;
        found = x;
    }
    return found;
}

/* By the tensor's name in the adapter's world; whole: one matrix, no stack. */
static lb_status place(maker *m, lb_str name, bool whole, lb_lora_term *term, bool *found,
                       lb_err *err) {
    const lb_ctensors *b = m->base;
    lb_arch_match at[LB_LORA_ROWS_MAX];
    const lb_ctensor *beside =
        whole && m->world == LB_WORLD_HF && b->world == LB_WORLD_HF ? find_beside(b, name) : NULL;
    u32 n = b->arch && !beside ? lb_lora_find_rows(b->arch, &b->hp, m->world, name, at) : 0;
    *found = true;
    if (beside)
        name = b->source->weights[beside->weight].name;
    if (whole && m->world == b->world && has_stored_names(b)) {
        lb_str key = stored_key(&m->t->keys, name, n ? at : NULL);
        if (!key.ptr)
            return oom(err);
        if (lb_map_find(&m->stored, key, NULL)) {
            term->stored = true;
            term->row = n ? at[0].row : NULL;
            term->expert = LB_NO_INDEX;
            term->both = ties(m, term, term->row);
            return add_term(m->t, key, term, err);
        }
    }
    for (u32 i = 0; i < n; i++) {
        lb_lora_term one = *term;
        one.row = at[i].row;
        one.expert = at[i].expert;
        one.both = ties(m, term, one.row);
        LB_TRY(add_term(m->t, canonical_key(&m->t->keys, one.row, &at[i]), &one, err));
    }
    *found = n > 0;
    return LB_OK;
}

static lb_status no_place(const maker *m, lb_str name, lb_err *err) {
    const lb_ctensors *b = m->base;
    return lb_fail(err, LB_E_FORMAT,
                   "'%.*s' fits no tensor of the base model '%.*s' (%s): is the adapter another "
                   "model's?",
                   LB_FMT(name), LB_FMT(b->source->label),
                   b->arch ? lb_arch_name(b->arch) : "of a family that is not known");
}

static lb_status place_part(maker *m, const lb_adapter_part *p, lb_err *err) {
    lb_arena *a = &m->t->keys;
    lb_lora_term term = {.what = LB_LORA_SUM, .adapter = m->adapter, .part = p};
    lb_str weight = p->module, bias = LB_STR_NONE;
    bool found;
    if (p->parameter.len)
        weight = lb_arena_printf(a, "%.*s.%.*s", LB_FMT(p->module), LB_FMT(p->parameter));
    else if (m->world != LB_WORLD_GGUF)
        weight = lb_arena_printf(a, "%.*s.weight", LB_FMT(p->module));
    if (!weight.ptr)
        return oom(err);
    LB_TRY(place(m, weight, p->n_stack == 1 && !p->parameter.len, &term, &found, err));
    if (!found)
        return no_place(m, p->module, err);
    if (p->bias == LB_ADAPTER_ABSENT)
        return LB_OK;
    bias = lb_arena_printf(a, "%.*s.bias", LB_FMT(p->module));
    if (!bias.ptr)
        return oom(err);
    term = (lb_lora_term){.what = LB_LORA_BIAS, .adapter = m->adapter, .part = p};
    LB_TRY(place(m, bias, true, &term, &found, err));
    return found ? LB_OK : no_place(m, bias, err);
}

static lb_status place_value(maker *m, const lb_adapter_value *v, lb_err *err) {
    lb_lora_term term = {
        .what = v->rows ? LB_LORA_ROWS : LB_LORA_VALUE, .adapter = m->adapter, .value = v};
    bool found;
    if (v->is_idle)
        return LB_OK;
    LB_TRY(place(m, v->name, true, &term, &found, err));
    return found ? LB_OK : no_place(m, v->name, err);
}

static lb_status check_family(const maker *m, const lb_adapter *a, lb_err *err) {
    const lb_gguf_kv *kv =
        a->form == LB_ADAPTER_GGUF ? lb_meta_find(a->source->gguf, "general.architecture") : NULL;
    lb_str own;
    if (m->world != m->base->world && !m->base->arch)
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "%.*s: the base model's family is not known, and so its names in an adapter "
                       "of this form: %s",
                       LB_FMT(a->source->label), m->base->arch_err.msg);
    if (kv && lb_kv_as_str(kv, &own) && m->base->arch &&
        !lb_str_eq_c(own, lb_arch_name(m->base->arch)))
        return lb_fail(err, LB_E_FORMAT, "%.*s is an adapter of a %.*s, the base model is a %s",
                       LB_FMT(a->source->label), LB_FMT(own), lb_arch_name(m->base->arch));
    return LB_OK;
}

lb_status lb_lora_terms_make(lb_lora_terms *t, lb_plan *p, const lb_lora_input *in, u32 n_in,
                             const lb_ctensors *base, lb_err *err) {
    *t = (lb_lora_terms){.plan = p, .in = in, .n_in = n_in};
    maker m = {.t = t, .base = base};
    lb_status st = list_stored(&m, err);
    for (; m.adapter < n_in && st == LB_OK; m.adapter++) {
        const lb_adapter *a = in[m.adapter].adapter;
        m.world = lb_adapter_world(a->form);
        st = check_family(&m, a, err);
        for (u64 i = 0; i < a->n_values && st == LB_OK; i++)
            st = place_value(&m, &a->values[i], err);
        for (u64 i = 0; i < a->n && st == LB_OK; i++)
            st = place_part(&m, &a->parts[i], err);
        if (st != LB_OK)
            lb_err_context(err, "%s", a->source->path);
    }
    lb_map_deinit(&m.stored);
    return st;
}

void lb_lora_terms_deinit(lb_lora_terms *t) {
    lb_free(t->terms);
    lb_map_deinit(&t->first);
    lb_arena_deinit(&t->keys);
    *t = (lb_lora_terms){0};
}

/* ---- applying ---- */

/* The first term of a key; UINT64_MAX: none. */
static u64 first_of(const lb_lora_terms *t, lb_str key) {
    u64 k;
    return key.ptr && lb_map_find(&t->first, key, &k) ? k : UINT64_MAX;
}

static u64 first_canonical(const lb_lora_terms *t, const lb_ctensor *x) {
    lb_arena a = {0};
    u64 k = UINT64_MAX;
    if (x->known)
        k = first_of(t, canonical_key(&a, x->match.row, &x->match));
    lb_arena_deinit(&a);
    return k;
}

static u64 first_stored(const lb_lora_terms *t, const lb_ctensors *base, const lb_ctensor *x) {
    lb_arena a = {0};
    u64 k = has_stored_names(base) ? first_of(t, stored_key_of(&a, base, x)) : UINT64_MAX;
    lb_arena_deinit(&a);
    return k;
}

lb_lora_touch lb_lora_terms_touch(const lb_lora_terms *t, const lb_ctensors *base,
                                  const lb_ctensor *x) {
    if (!t)
        return LB_LORA_LEAVES;
    for (u64 i = 0; i < base->n_tensors; i++) { /* neighbours share the weight */
        const lb_ctensor *y = x + i;
        if (y >= base->tensors + base->n_tensors || y->weight != x->weight)
            break;
        if (first_canonical(t, y) != UINT64_MAX)
            return LB_LORA_CANONICAL;
    }
    for (const lb_ctensor *y = x; y > base->tensors && (y - 1)->weight == x->weight;)
        if (first_canonical(t, --y) != UINT64_MAX)
            return LB_LORA_CANONICAL;
    return first_stored(t, base, x) != UINT64_MAX ? LB_LORA_STORED : LB_LORA_LEAVES;
}

/* The canonical matrix is the whole stored one. */
static bool is_whole(const lb_ctensors *base, const lb_ctensor *x) {
    return base->world == LB_WORLD_HF && x->known && x->n_stack == 1 &&
           x->match.row->part[LB_WORLD_HF] == LB_PART_ALL &&
           lb_arch_row_relayout(x->match.row, LB_WORLD_HF) == LB_RL_NONE;
}

static lb_status apply_chain(lb_lora_terms *t, const lb_lora_where *w, u64 first, u32 adapter,
                             lb_lora_what what, lb_piece *piece, lb_err *err) {
    for (u64 k = first; k != UINT64_MAX; k = t->terms[k].next) {
        lb_lora_term *term = &t->terms[k];
        if (term->adapter != adapter || term->what != what || (w->only_both && !term->both))
            continue;
        if (term->expert != LB_NO_INDEX && term->expert != w->expert)
            continue;
        if (!w->only_both)
            term->n_applied++;
        LB_TRY(lb_lora_node(w, &t->in[adapter], term, piece, err));
    }
    return LB_OK;
}

/* Adapter by adapter; x0, of a DoRA, is what was there before all of them. */
static lb_status apply_all(lb_lora_terms *t, lb_lora_where *w, const u64 *firsts, u32 n,
                           lb_piece *piece, lb_err *err) {
    w->before = *piece;
    for (u32 a = 0; a < t->n_in; a++)
        for (u32 what = LB_LORA_VALUE; what <= LB_LORA_BIAS; what++)
            for (u32 i = 0; i < n; i++)
                LB_TRY(apply_chain(t, w, firsts[i], a, (lb_lora_what)what, piece, err));
    return LB_OK;
}

lb_status lb_lora_terms_apply(lb_lora_terms *t, const lb_ctensors *base, const lb_ctensor *x,
                              u32 expert, bool stored, lb_piece *piece, lb_err *err) {
    u64 firsts[2] = {UINT64_MAX, UINT64_MAX};
    lb_lora_where w = {.plan = t->plan,
                       .base = base,
                       .name = base->source->weights[x->weight].name,
                       .row = x->known ? x->match.row : NULL,
                       .suffix = x->known ? x->match.suffix : 0,
                       .expert = expert != LB_NO_INDEX ? expert
                                 : x->known            ? x->match.expert
                                                       : LB_NO_INDEX};
    if (stored || is_whole(base, x))
        firsts[0] = first_stored(t, base, x);
    if (!stored)
        firsts[1] = first_canonical(t, x);
    return apply_all(t, &w, firsts, 2, piece, err);
}

/* ---- a tied output matrix ---- */

static const lb_ctensor *embedding_of(const lb_ctensors *base) {
    for (u64 i = 0; i < base->n_tensors && base->arch; i++)
        if (base->tensors[i].known && base->tensors[i].match.row->role == LB_ROLE_TOKEN_EMBD &&
            !base->tensors[i].extra)
            return &base->tensors[i];
    return NULL;
}

static lb_str output_key(lb_arena *a, const lb_ctensors *base) {
    u32 n = 0;
    const lb_arch_tensor *rows = base->arch ? lb_arch_rows(base->arch, &n) : NULL;
    for (u32 i = 0; i < n; i++)
        if (rows[i].role == LB_ROLE_OUTPUT)
            return canonical_key(a, &rows[i],
                                 &(lb_arch_match){.row = &rows[i],
                                                  .n_rows = 1,
                                                  .layer = LB_NO_INDEX,
                                                  .expert = LB_NO_INDEX,
                                                  .mtp = LB_NO_INDEX,
                                                  .suffix = LB_SUFFIX_WEIGHT});
    return LB_STR_NONE;
}

bool lb_lora_terms_untie(const lb_lora_terms *t, const lb_ctensors *base) {
    bool apart = false;
    for (u64 i = 0; i < t->n; i++) {
        const lb_arch_tensor *row = t->terms[i].row;
        apart |=
            row && t->terms[i].what != LB_LORA_BIAS &&
            (row->role == LB_ROLE_OUTPUT || (row->role == LB_ROLE_TOKEN_EMBD && !t->terms[i].both));
    }
    return base->hp.tied && apart && embedding_of(base);
}

lb_status lb_lora_terms_output(lb_lora_terms *t, const lb_ctensors *base, lb_piece *piece,
                               lb_err *err) {
    const lb_ctensor *x = embedding_of(base);
    lb_arena a = {0};
    u64 output = first_of(t, output_key(&a, base));
    u64 embedding[2] = {first_stored(t, base, x), first_canonical(t, x)};
    lb_lora_where w = {.plan = t->plan,
                       .base = base,
                       .name = base->source->weights[x->weight].name,
                       .row = x->match.row,
                       .suffix = x->match.suffix,
                       .expert = LB_NO_INDEX,
                       .only_both = true};
    lb_arena_deinit(&a);
    LB_TRY(lb_ctensor_piece(t->plan, base, x, LB_NO_INDEX, false, piece, err));
    LB_TRY(apply_all(t, &w, embedding, 2, piece, err));
    w.only_both = false;
    return apply_all(t, &w, &output, 1, piece, err);
}

lb_status lb_lora_terms_check(const lb_lora_terms *t, lb_err *err) {
    for (u64 i = 0; i < t->n; i++) {
        const lb_lora_term *x = &t->terms[i];
        if (x->n_applied >= (x->part && x->what == LB_LORA_SUM ? x->part->n_stack : 1) ||
            (x->part && x->expert != LB_NO_INDEX && x->n_applied))
            continue;
        lb_str name = x->part ? x->part->module : x->value->name;
        return lb_fail(err, LB_E_FORMAT,
                       "%s: '%.*s' fits %s of the base model: is the adapter another model's?",
                       t->in[x->adapter].adapter->source->path, LB_FMT(name),
                       x->n_applied ? "not every expert" : "no tensor");
    }
    return LB_OK;
}
