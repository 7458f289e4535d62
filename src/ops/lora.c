/* SPDX-License-Identifier: Apache-2.0 */
/* lora.c: opens the base and its adapters, lists the tensors of the result, makes their nodes. */
#include "ops/lora.h"
#include "ops/hf_texts.h"
#include "base/os.h"
#include "ops/hub.h"
#include "ops/lora_terms.h"
#include "ops/merge_view.h"

typedef struct lora {
    lb_computed computed; /* first */
    const lb_source *source;
    lb_adapter *adapters;
    lb_lora_input *in; /* sources of a plan are filled in there */
    u32 n;
    bool untied; /* the output matrix is one of its own */
} lora;

static lb_status oom(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for a model with adapters");
}

/* ---- names ---- */

static bool is_there(const char *arg, size_t n) {
    lb_arena a = {0};
    lb_str path = lb_arena_str(&a, (lb_str){arg, n});
    bool there = path.ptr && (lb_hub_is(path.ptr) || lb_os_exists(path.ptr));
    lb_arena_deinit(&a);
    return there;
}

/* Where the last name before end begins: the shortest that is there; else behind the last +. */
static size_t cut_last(const char *arg, size_t end) {
    size_t last = 0;
    for (size_t i = end; i > 0; i--) {
        if (arg[i - 1] != '+')
            continue;
        last = last ? last : i;
        if (is_there(arg + i, end - i))
            return i;
    }
    return last;
}

void lb_lora_split(const char *arg, size_t *base_len, size_t at[LB_LORA_MAX], u32 *n) {
    size_t len = strlen(arg), end = len;
    bool hub = lb_hub_is(arg);
    size_t cut[LB_LORA_MAX];
    u32 k = 0;
    *n = 0;
    while (end > 0 && k < LB_LORA_MAX && (k == 0 || hub || !is_there(arg, end))) {
        size_t i = cut_last(arg, end);
        if (i < 2 || i == end) /* no + is left, or a name is empty */
            break;
        cut[k++] = i;
        end = i - 1;
    }
    if (k == 0 || !is_there(arg, end) || lb_os_exists(arg))
        return;
    *base_len = end;
    *n = k;
    for (u32 i = 0; i < k; i++)
        at[i] = cut[k - 1 - i];
}

/* ---- the tensors ---- */

/* The base as it is with its adapters, in a plan. */
static lb_status make_view(lora *l, lb_plan *p, u32 index, lb_lora_terms *terms, lb_merge_view *v,
                           lb_node_id *output, lb_err *err) {
    lb_piece piece;
    *output = LB_NODE_NONE;
    for (u32 i = 0; i < l->n; i++)
        l->in[i].source = lb_computed_input(p, index, i + 1);
    LB_TRY(lb_merge_view_begin(p, lb_computed_input(p, index, 0), v, err));
    LB_TRY(lb_lora_terms_make(terms, p, l->in, l->n, &v->canon, err));
    v->canon.terms = terms;
    LB_TRY(lb_merge_view_finish(p, NULL, v, err));
    l->untied = lb_lora_terms_untie(terms, &v->canon);
    if (l->untied) {
        v->canon.terms = NULL;
        LB_TRY(lb_lora_terms_output(terms, &v->canon, &piece, err));
        v->canon.terms = terms;
        *output = piece.node;
    }
    LB_TRY(lb_lora_terms_check(terms, err));
    return lb_graph_status(&p->graph, err);
}

/* The stand-in for a tied output matrix is a tensor only where it has become one. */
static bool is_tensor(const lora *l, const lb_merge_fact *f) {
    return f->same_as == LB_NO_FACT || l->untied;
}

static lb_status check_vocab(const lora *l, const lb_merge_view *v, u64 *n_vocab, lb_err *err) {
    const lb_merge_fact *first = NULL;
    *n_vocab = 0;
    for (u32 i = 0; i < v->n; i++) {
        const lb_merge_fact *f = &v->facts[i];
        if (!f->is_vocab || !is_tensor(l, f) || f->shape.rank != 2)
            continue;
        if (first && first->shape.dim[0] != f->shape.dim[0])
            return lb_fail(err, LB_E_FORMAT,
                           "'%.*s' has %llu rows with the adapter, '%.*s' %llu: the adapter adds "
                           "tokens to one of them only",
                           LB_FMT(first->name), (unsigned long long)first->shape.dim[0],
                           LB_FMT(f->name), (unsigned long long)f->shape.dim[0]);
        first = f;
        *n_vocab = f->shape.dim[0];
    }
    return LB_OK;
}

static lb_status list_tensors(lora *l, lb_source *s, const lb_merge_view *v, lb_err *err) {
    for (u32 i = 0; i < v->n; i++) {
        const lb_merge_fact *f = &v->facts[i];
        lb_str name = lb_arena_str(&s->perm, f->name);
        if (!name.ptr)
            return oom(err);
        if (is_tensor(l, f))
            LB_TRY(lb_source_add_computed(s, name, f->dtype, &f->shape, err));
    }
    return LB_OK;
}

static lb_status fill_nodes(const lora *l, lb_plan *p, const lb_merge_view *v, lb_node_id output,
                            lb_node_id *nodes) {
    lb_graph *g = &p->graph;
    u64 n = 0;
    for (u32 i = 0; i < v->n; i++) {
        const lb_merge_fact *f = &v->facts[i];
        if (!is_tensor(l, f))
            continue;
        lb_node_id x = f->same_as == LB_NO_FACT ? v->nodes[i] : output;
        if (x != LB_NODE_NONE && !lb_expr_is_stored_as(g, x, f->dtype))
            x = lb_expr_decode(g, x);
        nodes[n++] = x;
    }
    return LB_OK;
}

static lb_status bind(const lb_computed *c, lb_plan *p, u32 index, lb_node_id *nodes, lb_err *err) {
    lora l = *(const lora *)(const void *)c;
    lb_lora_terms terms = {0};
    lb_merge_view v = {0};
    lb_node_id output;
    l.in = lb_arena_new(&p->perm, lb_lora_input, l.n);
    if (!l.in)
        return oom(err);
    memcpy(l.in, ((const lora *)(const void *)c)->in, l.n * sizeof *l.in);
    lb_status st = make_view(&l, p, index, &terms, &v, &output, err);
    if (st == LB_OK)
        st = fill_nodes(&l, p, &v, output, nodes);
    lb_merge_view_deinit(&v);
    lb_lora_terms_deinit(&terms);
    return st;
}

bool lb_lora_is(const lb_source *s) {
    return s->computed && s->computed->bind == bind;
}

/* ---- texts ---- */

static bool set(lb_arena *perm, lb_json *object, const char *key, lb_json *value, bool is_new) {
    return (!is_new && !lb_json_get(object, key)) || lb_json_set(perm, object, key, value);
}

static lb_status edit_config(const lora *l, lb_source *s, u64 n_vocab, lb_err *err) {
    lb_json *root, *text;
    if (s->config.len == 0)
        return LB_OK;
    LB_TRY(lb_json_parse(s->config, "config.json", &s->perm, &root, err));
    text = lb_json_get(root, "text_config");
    lb_arch_config_unquantize(root);
    lb_json *own = text && text->type == LB_JOBJECT ? text : root;
    u64 had = 0;
    bool grown = lb_json_as_u64(lb_json_get(own, "vocab_size"), &had) && n_vocab > had;
    bool ok = true;
    if (l->untied)
        ok = set(&s->perm, root, "tie_word_embeddings", lb_json_new_bool(&s->perm, false), true) &&
             set(&s->perm, own, "tie_word_embeddings", lb_json_new_bool(&s->perm, false), false);
    if (grown)
        ok = ok && set(&s->perm, own, "vocab_size", lb_json_new_u64(&s->perm, n_vocab), true);
    if (!ok)
        return oom(err);
    return lb_json_file(root, &s->perm, &s->config, err);
}

/* Added tokens stand in the tokenizer that was saved with the adapter. */
static lb_status take_tokenizer(lb_source *s, const lb_source *adapter, lb_err *err) {
    static const char *const names[] = {"tokenizer.json",
                                        "tokenizer.model",
                                        "tokenizer_config.json",
                                        "special_tokens_map.json",
                                        "added_tokens.json",
                                        "vocab.json",
                                        "merges.txt",
                                        "chat_template.jinja"};
    for (size_t i = 0; i < LB_LEN(names); i++) {
        const lb_side_file *f = lb_source_side(adapter, lb_str_c(names[i]));
        lb_str bytes;
        if (!f)
            continue;
        LB_TRY(lb_side_read(f, 256 * LB_MIB, &s->perm, &bytes, err));
        LB_TRY(lb_computed_side(s, f->name, bytes, false, err));
    }
    return LB_OK;
}

static u64 vocab_of(const lb_merge_view *v) {
    return v->canon.hp.n_vocab;
}

static lb_status take_texts(const lora *l, lb_source *s, const lb_merge_view *v, u64 n_vocab,
                            lb_err *err) {
    const lb_source *base = s->inputs[0];
    lb_buf notes = {0};
    lb_status st = lb_hf_texts_take(s, base, &v->canon, &notes, err);
    if (st == LB_OK)
        st = lb_computed_notes(s, &notes, err);
    lb_buf_deinit(&notes);
    LB_TRY(st);
    LB_TRY(edit_config(l, s, n_vocab, err));
    if (n_vocab > vocab_of(v))
        for (u32 i = 0; i < l->n; i++)
            LB_TRY(take_tokenizer(s, s->inputs[i + 1], err));
    return LB_OK;
}

static lb_status card(const lb_computed *c, lb_str name, lb_buf *b, lb_err *err) {
    const lora *l = (const lora *)(const void *)c;
    const lb_source *s = l->source;
    lb_buf_printf(b, "---\nbase_model:\n- %.*s\n", LB_FMT(s->inputs[0]->label));
    lb_buf_printf(b,
                  "library_name: transformers\ntags:\n- lora\n- lbrx\n---\n# %.*s\n\nThis is "
                  "%.*s with its adapter%s fused, made with lbrx %s:\n\n",
                  LB_FMT(name), LB_FMT(s->inputs[0]->label), l->n > 1 ? "s" : "", LB_VERSION);
    for (u32 i = 0; i < l->n; i++) {
        lb_buf_printf(b, "- %.*s (%s)", LB_FMT(s->inputs[i + 1]->label),
                      lb_adapter_form_name(l->adapters[i].form));
        if (l->in[i].scale != 1)
            lb_buf_printf(b, ", its scales times %g", l->in[i].scale);
        lb_buf_put_c(b, "\n");
    }
    return lb_buf_status(b, err);
}

/* ---- opening ---- */

static lb_status read_adapters(lora *l, lb_source *s, const double *scales, lb_err *err) {
    l->adapters = lb_arena_new(&s->perm, lb_adapter, l->n);
    l->in = lb_arena_new(&s->perm, lb_lora_input, l->n);
    if (!l->adapters || !l->in)
        return oom(err);
    for (u32 i = 0; i < l->n; i++) {
        const lb_source *a = s->inputs[i + 1];
        lb_status st = lb_adapter_read(&l->adapters[i], a, &s->perm, err);
        if (st != LB_OK) {
            lb_err_context(err, "%s", a->path);
            return st;
        }
        l->in[i] = (lb_lora_input){.adapter = &l->adapters[i], .scale = scales ? scales[i] : 1};
    }
    return LB_OK;
}

static lb_status fill(lora *l, lb_source *s, lb_err *err) {
    lb_plan *p = NULL;
    lb_lora_terms terms = {0};
    lb_merge_view v = {0};
    lb_node_id output;
    u64 n_vocab = 0;
    lb_status st = lb_computed_plan(&p, s, err);
    if (st == LB_OK)
        st = make_view(l, p, 0, &terms, &v, &output, err);
    if (st == LB_OK)
        st = check_vocab(l, &v, &n_vocab, err);
    if (st == LB_OK)
        st = list_tensors(l, s, &v, err);
    if (st == LB_OK)
        st = take_texts(l, s, &v, n_vocab, err);
    lb_merge_view_deinit(&v);
    lb_lora_terms_deinit(&terms);
    lb_plan_free(&p);
    return st;
}

static lb_status name_it(lb_source *s, lb_err *err) {
    lb_buf b = {0};
    for (u32 i = 0; i < s->n_inputs; i++)
        lb_buf_printf(&b, "%s%.*s", i ? "+" : "", LB_FMT(s->inputs[i]->label));
    lb_status st = lb_buf_status(&b, err);
    s->label = st == LB_OK ? lb_arena_str(&s->perm, lb_buf_str(&b)) : s->label;
    lb_buf_deinit(&b);
    return s->label.ptr ? st : oom(err);
}

lb_status lb_lora_open(lb_source **out, lb_source **base, lb_source **adapters,
                       const double *scales, u32 n, lb_err *err) {
    lora *l = NULL;
    lb_status st = lb_computed_new(out, NULL, (*base)->path, NULL, err);
    if (st == LB_OK)
        st = lb_computed_room(*out, n + 1, err);
    if (st == LB_OK && !(l = lb_arena_new(&(*out)->perm, lora, 1)))
        st = oom(err);
    if (st == LB_OK) {
        *l = (lora){.computed = {.bind = bind, .card = card, .like_input = true, .has_base = true},
                    .source = *out,
                    .n = n};
        (*out)->computed = &l->computed;
        lb_computed_take(*out, base);
        for (u32 i = 0; i < n; i++)
            lb_computed_take(*out, &adapters[i]);
        st = name_it(*out, err);
    }
    if (st == LB_OK)
        st = read_adapters(l, *out, scales, err);
    if (st == LB_OK)
        st = fill(l, *out, err);
    lb_source_close(base);
    for (u32 i = 0; i < n; i++)
        lb_source_close(&adapters[i]);
    if (st != LB_OK)
        lb_source_close(out);
    return st;
}
