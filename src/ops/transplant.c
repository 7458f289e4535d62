/* SPDX-License-Identifier: Apache-2.0 */
/* transplant.c: see transplant.h.
 *
 * The new matrices stand in a source of their own, the third input, which is made when a run first
 * reads it (plan/making.h). */
#include "ops/transplant.h"
#include "arch/arch_config.h"
#include "base/os.h"
#include "merge/transplant_files.h"
#include "ops/computed.h"
#include "ops/graft.h"
#include "ops/hf_texts.h"
#include "ops/merge_view.h"
#include "ops/open.h"
#include "text/tokdata.h"
#include <stdio.h>

enum { IN_MODEL, IN_DONOR, IN_MADE, N_INPUTS };
enum { PARTS_MAX = 3 }; /* embedding, output matrix, its bias */

/* A tensor with a row a token. */
typedef struct part {
    lb_str name, donor_name; /* donor_name: empty for a bias */
    lb_dtype dtype;
    u64 rows, cols; /* of the model's; the new one has n_rows of the transplant */
    bool is_head, is_bias;
    u64 donor_rows;
    u64 off_bytes;
} part;

/* What mp_rope needs to know of a model. */
typedef struct turning {
    u64 n_heads;
    double base;
} turning;

typedef struct transplant {
    lb_computed computed;
    lb_making making;
    lb_transplant_opts o;
    const lb_source *model, *donor, *made;
    part part[PARTS_MAX];
    u32 n_parts;
    u64 n_rows;
    turning model_turn, donor_turn;
    lb_str donor_embed, donor_head; /* head: the embedding's name where it is one with it */
    bool model_tied;
} transplant;

static lb_status oom(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for a transplant");
}

/* ---- which tensors ---- */

static bool is_named(lb_str name, const char *const *ends, u32 n) {
    for (u32 i = 0; i < n; i++)
        if (lb_str_ends(name, lb_str_c(ends[i])))
            return true;
    return false;
}

/* Of families that no table knows, by their usual names. */
static void mark_by_name(lb_merge_view *v) {
    static const char *const embeds[] = {"embed_tokens.weight", "wte.weight",
                                         "word_embeddings.weight", "tok_embeddings.weight",
                                         "embed_in.weight"};
    static const char *const heads[] = {"lm_head.weight", "embed_out.weight", "output.weight"};
    for (u32 i = 0; i < v->n && !v->canon.arch; i++) {
        lb_merge_fact *f = &v->facts[i];
        bool head = is_named(f->name, heads, LB_LEN(heads));
        f->is_vocab = head || is_named(f->name, embeds, LB_LEN(embeds));
        f->after = head;
    }
}

typedef struct vocab_tensors {
    const lb_merge_fact *embed, *head, *bias; /* head: NULL where there is none of its own */
    bool tied;                                /* the embedding is also the output matrix */
} vocab_tensors;

static lb_status find_tensors(lb_merge_view *v, const lb_source *s, vocab_tensors *out,
                              lb_err *err) {
    *out = (vocab_tensors){0};
    mark_by_name(v);
    for (u64 i = 0; i < v->canon.n_tensors; i++)
        if (v->canon.tensors[i].known && v->canon.tensors[i].match.row->role == LB_ROLE_LAYER_EMBD)
            return lb_fail(err, LB_E_UNSUPPORTED,
                           "%s: tensor '%.*s' has embeddings of tokens for every layer: such a "
                           "model gets no other tokenizer",
                           s->path, LB_FMT(s->weights[v->canon.tensors[i].weight].name));
    for (u32 i = 0; i < v->n; i++) {
        const lb_merge_fact *f = &v->facts[i];
        if (!f->is_vocab)
            continue;
        if (f->same_as != LB_NO_FACT)
            out->tied = true;
        else if (f->shape.rank == 1 && f->after)
            out->bias = f;
        else if (f->shape.rank == 2 && f->after)
            out->head = f;
        else if (f->shape.rank == 2)
            out->embed = f;
    }
    if (out->embed)
        return LB_OK;
    return lb_fail(err, LB_E_UNSUPPORTED,
                   "%s: no matrix of token embeddings is known in it: its tokenizer cannot be "
                   "exchanged",
                   s->path);
}

static void add_part(transplant *t, const lb_merge_fact *f, const lb_merge_fact *donor, bool head) {
    part *p = &t->part[t->n_parts++];
    *p = (part){.name = f->name, .dtype = f->dtype, .rows = f->shape.dim[0], .is_head = head};
    p->cols = f->shape.rank == 2 ? f->shape.dim[1] : 1;
    p->is_bias = f->shape.rank == 1;
    p->donor_name = donor ? donor->name : LB_STR_NONE;
    p->donor_rows = donor ? donor->shape.dim[0] : UINT64_MAX;
}

static lb_status choose_parts(transplant *t, const vocab_tensors *model, const vocab_tensors *donor,
                              lb_err *err) {
    const lb_merge_fact *head = donor->head ? donor->head : donor->tied ? donor->embed : NULL;
    add_part(t, model->embed, donor->embed, false);
    t->donor_embed = donor->embed->name;
    t->donor_head = head ? head->name : LB_STR_NONE;
    t->model_tied = !model->head;
    if (model->head && !head)
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "%s: it has no output matrix, and '%.*s' of %s needs one of it",
                       t->donor->path, LB_FMT(model->head->name), t->model->path);
    if (model->head)
        add_part(t, model->head, head, true);
    if (model->bias)
        add_part(t, model->bias, NULL, true);
    return LB_OK;
}

static const part *part_of(const transplant *t, lb_str name) {
    for (u32 i = 0; i < t->n_parts; i++)
        if (lb_str_eq(t->part[i].name, name))
            return &t->part[i];
    return NULL;
}

/* ---- vocabularies ---- */

typedef struct vocabs {
    lb_token_set model, donor;
} vocabs;

static lb_status read_vocabs(const transplant *t, vocabs *v, lb_err *err) {
    *v = (vocabs){0};
    lb_status st = lb_token_set_read(&v->model, t->model, err);
    const lb_source *s = t->model;
    if (st == LB_OK) {
        s = t->donor;
        st = lb_token_set_read(&v->donor, s, err);
    }
    if (st == LB_OK && v->donor.n_ids == 0)
        st = lb_fail(err, LB_E_FORMAT, "its tokenizer has no tokens");
    if (st == LB_OK && v->donor.n_ids >= LB_ALIGN_NEW)
        st = lb_fail(err, LB_E_LIMIT, "its tokenizer has too many tokens");
    size_t at;
    if (st != LB_OK && err && !lb_str_find(lb_str_c(err->msg), lb_str_c(s->path), &at))
        lb_err_context(err, "%s", s->path);
    return st;
}

static void free_vocabs(vocabs *v) {
    lb_token_set_deinit(&v->model);
    lb_token_set_deinit(&v->donor);
}

static lb_align_in align_of(const transplant *t, const part *p, const vocabs *v) {
    return (lb_align_in){.model = &v->model,
                         .donor = &v->donor,
                         .model_rows = p->rows,
                         .donor_rows = p->donor_rows,
                         .prefix = lb_allowed(t->o.prefix, p->is_head),
                         .byte = lb_allowed(t->o.byte, p->is_head)};
}

/* How many of the donor's tokens a method needs in common. */
static u64 needed(const lb_transplant_opts *o) {
    switch (o->method) {
    case LB_APPROX_OMP:
    case LB_APPROX_INTERPOLATION:
    case LB_APPROX_STB:
    case LB_APPROX_MP_ROPE:
        return o->k;
    case LB_APPROX_LANDMARK_PCA:
        return 2;
    default:
        return 0;
    }
}

static lb_status check_shared(const transplant *t, const lb_align *a, lb_err *err) {
    if (a->n_fresh == 0 || a->n_shared >= needed(&t->o))
        return LB_OK;
    return lb_fail(err, LB_E_UNSUPPORTED,
                   "%s and %s share %llu tokens: --approximation-method %s needs %llu of them (-k, "
                   "or another method)",
                   t->model->path, t->donor->path, (unsigned long long)a->n_shared,
                   lb_approx_names[t->o.method], (unsigned long long)needed(&t->o));
}

/* What a person wants to know before. */
static lb_status count_tokens(transplant *t, const vocabs *v, lb_buf *notes, lb_err *err) {
    lb_arena scratch = {0};
    lb_align a;
    lb_align_in in = align_of(t, &t->part[0], v);
    lb_status st = lb_align_make(&in, &scratch, &a, err);
    if (st == LB_OK && !t->o.magikarp)
        st = check_shared(t, &a, err);
    if (st == LB_OK) {
        lb_buf_printf(notes,
                      "tokens: %llu of the donor; %llu are the model's too, %llu match by a byte, "
                      "%llu by a prefix, %llu are approximated%s\n",
                      (unsigned long long)v->donor.n_tokens, (unsigned long long)a.n_exact,
                      (unsigned long long)a.n_byte, (unsigned long long)a.n_prefix,
                      (unsigned long long)a.n_fresh,
                      t->o.magikarp ? " (before those that were hardly trained are left out)" : "");
        if (a.n_junk)
            lb_buf_printf(notes, "zeros: %llu tokens have no row in the donor\n",
                          (unsigned long long)a.n_junk);
    }
    lb_arena_deinit(&scratch);
    return st;
}

/* ---- the source that is made ---- */

static lb_status make(lb_making *m, const lb_making_env *env, int fd, lb_err *err);

static lb_status make_identity(transplant *t, lb_arena *perm, lb_err *err) {
    t->making.identity = lb_transplant_text(&t->o, perm);
    return t->making.identity.ptr ? LB_OK : oom(err);
}

static lb_status open_made(transplant *t, lb_source **out, lb_err *err) {
    u64 size = 0, bytes;
    lb_source *s = *out = lb_source_new(LB_FORMAT_SAFETENSORS, "the rows of a transplant");
    if (!s)
        return oom(err);
    for (u32 i = 0; i < t->n_parts; i++) {
        t->part[i].off_bytes = size;
        if (!lb_mul_u64(t->n_rows, t->part[i].cols * sizeof(float), &bytes) ||
            !lb_add_u64(size, bytes, &size))
            return lb_fail(err, LB_E_LIMIT, "tensor '%.*s' is too large", LB_FMT(t->part[i].name));
    }
    t->making.make = make;
    LB_TRY(make_identity(t, &s->perm, err));
    LB_TRY(lb_making_file(s, &t->making, size, err));
    for (u32 i = 0; i < t->n_parts; i++) {
        const part *p = &t->part[i];
        lb_tensor x = {.name = lb_arena_str(&s->perm, p->name), .dtype = LB_F32};
        x.shape = (lb_shape){.rank = 2, .dim = {t->n_rows, p->cols}};
        x.off_bytes = p->off_bytes;
        x.size_bytes = t->n_rows * p->cols * sizeof(float);
        if (!x.name.ptr)
            return oom(err);
        LB_TRY(lb_source_add_tensor(s, &x, err));
    }
    return lb_source_add_all_plain(s, err);
}

typedef struct tools {
    const transplant *t;
    const lb_making_env *env;
    vocabs v;
    u8 *model_good, *donor_good; /* NULL: all */
    int fd;
    u64 done, total;
    lb_arena arena;
} tools;

/* Which tokens of one model were trained. */
static lb_status trained(tools *x, const lb_source *s, lb_str embed, lb_str head,
                         const lb_token_set *tokens, u8 **good, lb_err *err) {
    lb_rows e = {0}, h = {0};
    lb_status st = lb_rows_open(&e, s, embed, x->env, err);
    if (st == LB_OK && head.len)
        st = lb_rows_open(&h, s, head, x->env, err);
    lb_trained_in in = {.tokens = tokens, .embed = &e, .head = head.len ? &h : NULL, .env = x->env};
    if (st == LB_OK)
        st = lb_graft_trained(&in, &x->arena, good, err);
    lb_rows_close(&e);
    lb_rows_close(&h);
    return st;
}

static lb_status find_trained(tools *x, lb_err *err) {
    const transplant *t = x->t;
    lb_str head = LB_STR_NONE;
    for (u32 i = 0; i < t->n_parts; i++)
        head = t->part[i].is_head && !t->part[i].is_bias ? t->part[i].name : head;
    LB_TRY(trained(x, t->model, t->part[0].name, head, &x->v.model, &x->model_good, err));
    return trained(x, t->donor, t->donor_embed, t->donor_head, &x->v.donor, &x->donor_good, err);
}

static lb_status make_ropes(const transplant *t, lb_graft *g, lb_arena *arena, lb_err *err) {
    double *of_model = lb_arena_new(arena, double, g->model->n_cols + 1);
    double *of_donor = lb_arena_new(arena, double, g->donor->n_cols + 1);
    if (!of_model || !of_donor)
        return oom(err);
    if (t->o.method == LB_APPROX_MP_ROPE && g->align->n_fresh) {
        lb_rope_init(&g->model_rope, g->model->n_cols, t->model_turn.n_heads, t->model_turn.base,
                     of_model);
        lb_rope_init(&g->donor_rope, g->donor->n_cols, t->donor_turn.n_heads, t->donor_turn.base,
                     of_donor);
    }
    return LB_OK;
}

static lb_status make_part(tools *x, const part *p, lb_err *err) {
    const transplant *t = x->t;
    lb_align a;
    lb_rows model = {0}, donor = {0};
    lb_arena scratch = {0};
    lb_align_in in = align_of(t, p, &x->v);
    in.model_good = x->model_good;
    in.donor_good = x->donor_good;
    lb_status st = lb_align_make(&in, &scratch, &a, err);
    if (st == LB_OK)
        st = check_shared(t, &a, err);
    if (st == LB_OK)
        st = lb_rows_open(&model, t->model, p->name, x->env, err);
    if (st == LB_OK && !p->is_bias)
        st = lb_rows_open(&donor, t->donor, p->donor_name, x->env, err);
    if (st == LB_OK && p->is_bias) { /* zeros for new tokens */
        model.n_rows = p->rows;
        model.row_bytes = model.n_cols == 1 ? model.row_bytes : model.row_bytes / model.n_cols;
        model.n_cols = 1;
        for (u64 i = 0; i < a.n_fresh; i++)
            a.from[a.fresh[i]] = LB_ALIGN_ZERO;
        a.n_fresh = 0;
    }
    char name[128];
    (void)snprintf(name, sizeof name, "tensor '%.*s'", (int)LB_MIN(p->name.len, 100u), p->name.ptr);
    lb_graft g = {.o = &t->o,
                  .env = x->env,
                  .align = &a,
                  .model = &model,
                  .donor = &donor,
                  .model_tokens = &x->v.model,
                  .donor_tokens = &x->v.donor,
                  .model_source = t->model,
                  .name = name,
                  .is_head = p->is_head,
                  .fd = x->fd,
                  .off_bytes = p->off_bytes,
                  .done = &x->done,
                  .total = x->total};
    if (st == LB_OK)
        st = make_ropes(t, &g, &scratch, err);
    if (st == LB_OK)
        st = lb_graft_run(&g, err);
    lb_rows_close(&model);
    lb_rows_close(&donor);
    lb_arena_deinit(&scratch);
    return st;
}

static lb_status make(lb_making *m, const lb_making_env *env, int fd, lb_err *err) {
    const transplant *t =
        (const transplant *)(const void *)((const u8 *)m - offsetof(transplant, making));
    tools x = {.t = t, .env = env, .fd = fd, .total = t->n_parts * t->n_rows};
    lb_status st = read_vocabs(t, &x.v, err);
    if (st == LB_OK && t->o.magikarp)
        st = find_trained(&x, err);
    for (u32 i = 0; i < t->n_parts && st == LB_OK; i++)
        st = make_part(&x, &t->part[i], err);
    free_vocabs(&x.v);
    lb_arena_deinit(&x.arena);
    return st;
}

/* ---- nodes ---- */

/* What is read of stored models to make the rows counts as read: provenance names all of it. */
static lb_status mark_read(lb_plan *p, lb_node_id id, lb_err *err) {
    u8 *used = lb_arena_new(&p->perm, u8, (u64)id + 1);
    if (!used)
        return oom(err);
    memset(used, 0, (size_t)id + 1);
    used[id] = 1;
    for (u64 i = (u64)id + 1; i-- > 0;) { /* inputs come before what is made of them */
        const lb_node *n = lb_graph_node(&p->graph, (lb_node_id)i);
        if (!used[i])
            continue;
        for (u32 k = 0; k < n->n_in; k++)
            used[n->in[k]] = 1;
        for (u32 k = 0; n->kind == LB_NODE_READ && k < n->u.read.weight->n_parts; k++)
            p->src[n->u.read.source].used[n->u.read.weight->part[k]] |= LB_USED;
    }
    return LB_OK;
}

static lb_status mark_named(lb_plan *p, const lb_merge_view *v, lb_str name, lb_err *err) {
    for (u32 i = 0; i < v->n; i++)
        if (name.len && lb_str_eq(v->facts[i].name, name))
            return mark_read(p, v->nodes[i], err);
    return LB_OK;
}

static lb_status bind_all(const transplant *t, lb_plan *p, u32 index, const lb_merge_view *v,
                          lb_node_id *nodes, lb_err *err) {
    const lb_source *s = p->graph.sources[index];
    u32 made = lb_computed_input(p, index, IN_MADE);
    for (u64 i = 0; i < s->n_weights; i++) {
        const part *q = part_of(t, s->weights[i].name);
        u32 k = 0;
        while (k < v->n && !lb_str_eq(v->facts[k].name, s->weights[i].name))
            k++;
        LB_ASSERT(k < v->n);
        if (q) {
            const lb_weight *w = lb_source_weight(t->made, q->name);
            LB_TRY(mark_read(p, v->nodes[k], err));
            nodes[i] = q->is_bias ? lb_expr_read_as(&p->graph, made, w, 1, t->n_rows)
                                  : lb_expr_read(&p->graph, made, w);
            nodes[i] = lb_expr_decode(&p->graph, nodes[i]);
            continue;
        }
        bool stored = lb_expr_is_stored_as(&p->graph, v->nodes[k], s->tensors[i].dtype);
        nodes[i] = stored ? v->nodes[k] : lb_expr_decode(&p->graph, v->nodes[k]);
    }
    return lb_graph_status(&p->graph, err);
}

static lb_status bind(const lb_computed *c, lb_plan *p, u32 index, lb_node_id *nodes, lb_err *err) {
    const transplant *t = (const transplant *)(const void *)c;
    lb_merge_view model = {0}, donor = {0};
    lb_status st = lb_merge_view_make(p, lb_computed_input(p, index, IN_MODEL), NULL, &model, err);
    if (st == LB_OK)
        st = lb_merge_view_make(p, lb_computed_input(p, index, IN_DONOR), NULL, &donor, err);
    if (st == LB_OK)
        st = mark_named(p, &donor, t->donor_embed, err);
    if (st == LB_OK && (!t->model_tied || t->o.magikarp))
        st = mark_named(p, &donor, t->donor_head, err);
    if (st == LB_OK)
        st = bind_all(t, p, index, &model, nodes, err);
    lb_merge_view_deinit(&model);
    lb_merge_view_deinit(&donor);
    return st;
}

static lb_status card(const lb_computed *c, lb_str name, lb_buf *b, lb_err *err) {
    const transplant *t = (const transplant *)(const void *)c;
    lb_buf_printf(b,
                  "---\nbase_model:\n- %.*s\n- %.*s\nlibrary_name: transformers\ntags:\n- lbrx\n",
                  LB_FMT(t->model->label), LB_FMT(t->donor->label));
    lb_buf_printf(b,
                  "---\n# %.*s\n\nThis is %.*s with the tokenizer of %.*s, made with lbrx %s.\n\n",
                  LB_FMT(name), LB_FMT(t->model->label), LB_FMT(t->donor->label), LB_VERSION);
    lb_buf_printf(b, "Tokens that %.*s did not have: `%.*s`.\n", LB_FMT(t->model->label),
                  LB_FMT(lb_str_sub(t->making.identity, 1, t->making.identity.len)));
    return lb_buf_status(b, err);
}

/* ---- config and files ---- */

static lb_status read_side(const lb_source *s, const char *name, lb_arena *perm, lb_str *out,
                           lb_err *err) {
    const lb_side_file *f = lb_source_side(s, lb_str_c(name));
    *out = LB_STR_NONE;
    return f ? lb_side_read(f, 16 * LB_MIB, perm, out, err) : LB_OK;
}

static lb_status write_config(transplant *t, lb_source *s, const vocabs *v, lb_dtype dtype,
                              lb_err *err) {
    lb_token_ids ids = {.model = &v->model, .donor = &v->donor};
    lb_json *donor = NULL;
    lb_str config, generation, theirs;
    lb_buf b = {0};
    if (!s->config.len)
        return lb_fail(err, LB_E_UNSUPPORTED, "%s: it has no config.json", t->model->path);
    if (t->donor->config.len)
        LB_TRY(lb_json_parse(t->donor->config, "config.json", &s->perm, &donor, err));
    ids.config = donor;
    lb_status st = lb_arch_config_to_hf(s->config, dtype, t->n_rows, &b, err);
    if (st == LB_OK) {
        config = lb_arena_str(&s->perm, lb_buf_str(&b));
        st = config.ptr ? lb_token_ids_config(&ids, config, &s->perm, &s->config, err) : oom(err);
    }
    lb_buf_deinit(&b);
    LB_TRY(st);
    LB_TRY(lb_computed_side(s, LB_STR("config.json"), s->config, false, err));
    LB_TRY(read_side(s, "generation_config.json", &s->perm, &generation, err));
    LB_TRY(read_side(t->donor, "generation_config.json", &s->perm, &theirs, err));
    LB_TRY(lb_token_ids_generation(&ids, generation, theirs, &s->perm, &generation, err));
    if (generation.len)
        return lb_computed_side(s, LB_STR("generation_config.json"), generation, false, err);
    lb_computed_drop_side(s, LB_STR("generation_config.json"));
    return LB_OK;
}

/* The model's files with the donor's tokenizer in place of its own. */
static lb_status take_files(const transplant *t, lb_source *s, lb_err *err) {
    for (u64 i = s->n_sides; i-- > 0;)
        if (lb_is_tokenizer_file(s->sides[i].name))
            lb_computed_drop_side(s, s->sides[i].name);
    if (t->donor->gguf)
        return lb_hf_texts_tokenizer(s, t->donor, err);
    for (u64 i = 0; i < t->donor->n_sides; i++) {
        const lb_side_file *f = &t->donor->sides[i];
        if (!lb_is_tokenizer_file(f->name))
            continue;
        LB_TRY(lb_computed_side(s, f->name, f->bytes, f->provenance, err));
        for (u64 k = 0; k < s->n_sides; k++)
            if (lb_str_eq(s->sides[k].name, f->name)) {
                s->sides[k].path = f->path;
                s->sides[k].size_bytes = f->size_bytes;
            }
    }
    return LB_OK;
}

/* ---- opening ---- */

static lb_status list_tensors(transplant *t, lb_source *s, const lb_merge_view *v, lb_err *err) {
    for (u32 i = 0; i < v->n; i++) {
        const lb_merge_fact *f = &v->facts[i];
        lb_shape shape = f->shape;
        lb_str name = lb_arena_str(&s->perm, f->name);
        if (!name.ptr)
            return oom(err);
        if (f->same_as != LB_NO_FACT)
            continue;
        if (part_of(t, f->name))
            shape.dim[0] = t->n_rows;
        LB_TRY(lb_source_add_computed(s, name, f->dtype, &shape, err));
    }
    return LB_OK;
}

/* Names of a view live in its plan. */
static lb_status keep_names(transplant *t, lb_source *s, lb_err *err) {
    lb_str *names[2 * PARTS_MAX + 2] = {&t->donor_embed, &t->donor_head};
    u32 n = 2;
    for (u32 i = 0; i < t->n_parts; i++) {
        names[n++] = &t->part[i].name;
        names[n++] = &t->part[i].donor_name;
    }
    for (u32 i = 0; i < n; i++)
        if (names[i]->ptr) {
            *names[i] = lb_arena_str(&s->perm, *names[i]);
            if (!names[i]->ptr)
                return oom(err);
        }
    return LB_OK;
}

static double rope_base(const lb_ctensors *c) {
    static const char *const paths[] = {"rope_theta", "rope_parameters.rope_theta",
                                        "text_config.rope_theta",
                                        "text_config.rope_parameters.rope_theta"};
    double base;
    for (u32 i = 0; i < LB_LEN(paths); i++)
        if (lb_json_as_f64(lb_json_path(c->config, paths[i]), &base))
            return base;
    for (u64 i = 0; c->source->gguf && i < c->source->gguf->n; i++)
        if (lb_str_ends(c->source->gguf->kv[i].key, LB_STR(".rope.freq_base")) &&
            lb_kv_as_f64(&c->source->gguf->kv[i], &base))
            return base;
    return 10000;
}

static lb_status find_turning(const lb_ctensors *c, u64 width, turning *out, lb_err *err) {
    *out = (turning){c->hp.n_head, rope_base(c)};
    if (!out->n_heads)
        (void)lb_json_as_u64(lb_json_get(c->config, "num_attention_heads"), &out->n_heads);
    if (out->n_heads && width % (2 * out->n_heads) == 0)
        return LB_OK;
    return lb_fail(
        err, LB_E_UNSUPPORTED,
        "%s: --approximation-method mp_rope: %llu columns are not cut into pairs of %llu "
        "heads",
        c->source->path, (unsigned long long)width, (unsigned long long)out->n_heads);
}

static lb_status find_turnings(transplant *t, const lb_merge_view *model,
                               const lb_merge_view *donor, u64 donor_width, lb_err *err) {
    if (t->o.method != LB_APPROX_MP_ROPE)
        return LB_OK;
    LB_TRY(find_turning(&model->canon, t->part[0].cols, &t->model_turn, err));
    return find_turning(&donor->canon, donor_width, &t->donor_turn, err);
}

static lb_status look_at(transplant *t, lb_source *s, lb_dtype *dtype, lb_buf *notes, lb_err *err) {
    lb_plan *p = NULL;
    lb_merge_view model = {0}, donor = {0};
    vocab_tensors own, theirs;
    lb_status st = lb_computed_plan(&p, s, err);
    if (st == LB_OK)
        st = lb_merge_view_make(p, lb_computed_input(p, 0, IN_MODEL), NULL, &model, err);
    if (st == LB_OK)
        st = lb_merge_view_make(p, lb_computed_input(p, 0, IN_DONOR), NULL, &donor, err);
    if (st == LB_OK)
        st = find_tensors(&model, t->model, &own, err);
    if (st == LB_OK)
        st = find_tensors(&donor, t->donor, &theirs, err);
    if (st == LB_OK)
        st = choose_parts(t, &own, &theirs, err);
    if (st == LB_OK)
        st = find_turnings(t, &model, &donor, theirs.embed->shape.dim[1], err);
    if (st == LB_OK)
        st = lb_hf_texts_take(s, t->model, &model.canon, notes, err);
    if (st == LB_OK)
        st = list_tensors(t, s, &model, err);
    if (st == LB_OK)
        st = keep_names(t, s, err);
    *dtype = model.canon.main_dtype;
    lb_merge_view_deinit(&model);
    lb_merge_view_deinit(&donor);
    lb_plan_free(&p);
    return st;
}

static lb_status fill(transplant *t, lb_source *s, lb_err *err) {
    vocabs v;
    lb_dtype dtype;
    lb_source *made = NULL;
    lb_buf notes = {0};
    lb_status st = read_vocabs(t, &v, err);
    t->n_rows = v.donor.n_ids;
    if (st == LB_OK)
        st = look_at(t, s, &dtype, &notes, err);
    if (st == LB_OK)
        st = count_tokens(t, &v, &notes, err);
    if (st == LB_OK)
        st = open_made(t, &made, err);
    t->made = made;
    if (made)
        lb_computed_take(s, &made);
    if (st == LB_OK)
        st = take_files(t, s, err);
    if (st == LB_OK)
        st = write_config(t, s, &v, dtype, err);
    if (st == LB_OK)
        st = lb_computed_notes(s, &notes, err);
    lb_buf_deinit(&notes);
    free_vocabs(&v);
    return st;
}

static lb_status open_inputs(transplant *t, lb_source *s, const char *model, const char *donor,
                             lb_err *err) {
    const char *path[] = {model, donor};
    const lb_source **of[] = {&t->model, &t->donor};
    LB_TRY(lb_computed_room(s, N_INPUTS, err));
    for (u32 i = 0; i < LB_LEN(path); i++) {
        lb_source *in = NULL;
        LB_TRY(lb_open_planned(&in, path[i], err));
        *of[i] = in;
        lb_computed_take(s, &in);
    }
    return LB_OK;
}

lb_status lb_transplant_open(lb_source **out, const char *model, const char *donor,
                             const lb_transplant_opts *o, lb_err *err) {
    LB_TRY(lb_computed_new(out, NULL, model, NULL, err));
    lb_source *s = *out;
    transplant *t = lb_arena_new(&s->perm, transplant, 1);
    lb_status st = t ? LB_OK : oom(err);
    if (st == LB_OK) {
        *t = (transplant){.computed = {.bind = bind, .card = card, .has_base = true}, .o = *o};
        s->computed = &t->computed;
        st = open_inputs(t, s, model, donor, err);
    }
    if (st == LB_OK)
        st = fill(t, s, err);
    if (st != LB_OK)
        lb_source_close(out);
    return st;
}
