/* SPDX-License-Identifier: Apache-2.0 */
/* hf_write.c: filling the skeleton of a tokenizer.json. */
#include "text/hf_write.h"

#include "io/json.h"

/* How the entries of an object or list are set. Views of the skeleton. */
typedef struct layout {
    size_t from, to; /* the container in the skeleton, with its brackets */
    u64 n;           /* entries seen: 0, 1 or 2 */
    lb_str open, join, close;
    lb_str colon; /* vocab: from behind the key to the value */
    bool pairs;   /* merges, scores: lists of two */
    lb_str in_open, in_join, in_close;
} layout;

static size_t skip_space(lb_str s, size_t i) {
    while (i < s.len && strchr(" \t\r\n", s.ptr[i]))
        i++;
    return i;
}

/* Behind the string whose opening quote is at i. */
static size_t skip_string(lb_str s, size_t i) {
    for (i++; i < s.len && s.ptr[i] != '"'; i++)
        i += s.ptr[i] == '\\';
    return LB_MIN(i + 1, s.len);
}

static size_t skip_number(lb_str s, size_t i) {
    while (i < s.len && strchr("+-.0123456789eE", s.ptr[i]))
        i++;
    return i;
}

/* One entry of model.vocab at i ("key": number); behind it. */
static size_t vocab_entry(lb_str s, size_t i, layout *l) {
    size_t key_end = skip_string(s, i), value = skip_space(s, key_end);
    value = skip_space(s, value + (value < s.len && s.ptr[value] == ':'));
    l->colon = lb_str_sub(s, key_end, value);
    return skip_number(s, value);
}

/* One entry at i: a string, or a list of two: strings of model.merges, a string and a number of
 * model.vocab. */
static size_t list_entry(lb_str s, size_t i, layout *l) {
    l->pairs = i < s.len && s.ptr[i] == '[';
    if (!l->pairs)
        return skip_string(s, i);
    size_t a = skip_space(s, i + 1), a_end = skip_string(s, a);
    size_t b = skip_space(s, a_end);
    b = skip_space(s, b + (b < s.len && s.ptr[b] == ','));
    bool text = b < s.len && s.ptr[b] == '"';
    size_t b_end = text ? skip_string(s, b) : skip_number(s, b), close = skip_space(s, b_end);
    l->in_open = lb_str_sub(s, i, a);
    l->in_join = lb_str_sub(s, a_end, b);
    l->in_close = lb_str_sub(s, b_end, close + 1);
    return LB_MIN(close + 1, s.len);
}

/* Learns from the container at [from, to), valid JSON of at most two entries. */
static void learn(lb_str s, size_t from, size_t to, bool object, layout *l) {
    lb_str text = lb_str_sub(s, 0, to);
    *l = (layout){.from = from, .to = to};
    size_t first = skip_space(text, from + 1);
    if (first + 1 >= to) { /* empty */
        l->open = lb_str_sub(text, from, to - 1);
        l->close = lb_str_sub(text, to - 1, to);
        return;
    }
    size_t end = object ? vocab_entry(text, first, l) : list_entry(text, first, l);
    l->open = lb_str_sub(text, from, first);
    l->n = 1;
    size_t comma = skip_space(text, end);
    if (comma < to && text.ptr[comma] == ',') {
        size_t second = skip_space(text, comma + 1);
        l->join = lb_str_sub(text, end, second);
        end = object ? vocab_entry(text, second, l) : list_entry(text, second, l);
        l->n = 2;
    }
    l->close = lb_str_sub(text, end, to);
}

/* ---- writing ---- */

typedef struct writer {
    const lb_hf_parts *p;
    lb_out *out;
    lb_buf joined;
} writer;

static lb_status put_vocab(writer *w, const layout *l, lb_err *err) {
    lb_buf *b = &w->out->buf;
    bool first = true;
    lb_buf_put_str(b, l->open);
    for (u64 i = 0; i < w->p->token->n && !lb_out_failed(w->out); i++) {
        if (!lb_texts_has(w->p->token, i))
            continue;
        if (l->n < (first ? 1 : 2))
            return lb_fail(err, LB_E_FORMAT, "skeleton: model.vocab shows too few entries");
        lb_buf_put_str(b, first ? LB_STR_NONE : l->join);
        lb_buf_put_str(b, l->in_open);
        lb_json_write_str(b, lb_texts_get(w->p->token, i), w->p->ascii);
        lb_buf_put_str(b, w->p->score ? l->in_join : l->colon);
        if (w->p->score)
            lb_json_write_f64(b, (double)w->p->score[i]);
        else
            lb_buf_put_dec(b, i);
        lb_buf_put_str(b, l->in_close);
        first = false;
        lb_out_spill(w->out);
    }
    lb_buf_put_str(b, l->close);
    return LB_OK;
}

static void put_merge(writer *w, const layout *l, const lb_str pair[2]) {
    lb_buf *b = &w->out->buf;
    if (l->pairs) {
        lb_buf_put_str(b, l->in_open);
        lb_json_write_str(b, pair[0], w->p->ascii);
        lb_buf_put_str(b, l->in_join);
        lb_json_write_str(b, pair[1], w->p->ascii);
        lb_buf_put_str(b, l->in_close);
        return;
    }
    lb_buf_reset(&w->joined);
    lb_buf_put_str(&w->joined, pair[0]);
    lb_buf_put_u8(&w->joined, ' ');
    lb_buf_put_str(&w->joined, pair[1]);
    lb_json_write_str(b, lb_buf_str(&w->joined), w->p->ascii);
}

static lb_status put_merges(writer *w, const layout *l, lb_err *err) {
    const lb_hf_merges *m = &w->p->merges;
    lb_str pair[2];
    bool more = m->next != NULL;
    lb_buf_put_str(&w->out->buf, l->open);
    for (bool first = true; more && !lb_out_failed(w->out); first = false) {
        LB_TRY(m->next(m->ctx, pair, &more, err));
        if (!more)
            break;
        if (l->n < (first ? 1 : 2))
            return lb_fail(err, LB_E_FORMAT, "skeleton: model.merges shows too few entries");
        lb_buf_put_str(&w->out->buf, first ? LB_STR_NONE : l->join);
        put_merge(w, l, pair);
        lb_out_spill(w->out);
    }
    lb_buf_put_str(&w->out->buf, l->close);
    return lb_buf_status(&w->joined, err);
}

/* ---- where the containers stand ---- */

typedef struct place {
    size_t from, to; /* from == to: absent */
    u64 n;
    bool is_array;
} place;

static lb_status measure(lb_json_reader *r, place *s, lb_err *err) {
    lb_json_tok tok;
    LB_TRY(lb_json_next(r, &tok, err));
    if (tok != LB_JSON_OBJECT && tok != LB_JSON_ARRAY)
        return lb_fail(err, LB_E_FORMAT, "skeleton: no vocabulary or merges");
    *s = (place){.from = r->pos - 1, .is_array = tok == LB_JSON_ARRAY};
    for (u32 depth = r->depth; r->depth >= depth;) {
        LB_TRY(lb_json_next(r, &tok, err));
        s->n += r->depth == depth && tok != LB_JSON_KEY; /* a value, or the end of one */
    }
    s->to = r->pos;
    return LB_OK;
}

static lb_status locate(lb_str skeleton, bool list, place *vocab, place *merges, lb_err *err) {
    lb_json_reader r;
    lb_json_tok tok;
    lb_json_begin(&r, skeleton);
    LB_TRY(lb_json_next(&r, &tok, err));
    for (bool in_model = false; r.depth;) {
        LB_TRY(lb_json_next(&r, &tok, err));
        if (tok == LB_JSON_OBJECT_END)
            in_model = false;
        if (tok != LB_JSON_KEY)
            continue;
        if (r.depth == 1 && lb_str_eq_c(r.raw, "model")) {
            in_model = true;
            LB_TRY(lb_json_next(&r, &tok, err));
        } else if (in_model && r.depth == 2 && lb_str_eq_c(r.raw, "vocab")) {
            LB_TRY(measure(&r, vocab, err));
        } else if (in_model && r.depth == 2 && lb_str_eq_c(r.raw, "merges")) {
            LB_TRY(measure(&r, merges, err));
        } else {
            LB_TRY(lb_json_skip(&r, err));
        }
    }
    LB_TRY(lb_json_next(&r, &tok, err));
    if (vocab->from == vocab->to || vocab->is_array != list || tok != LB_JSON_END)
        return lb_fail(err, LB_E_FORMAT, "skeleton: no vocabulary");
    if (vocab->n > 2 || merges->n > 2)
        return lb_fail(err, LB_E_FORMAT, "skeleton: more than two entries");
    return LB_OK;
}

lb_status lb_hf_write(const lb_hf_parts *p, lb_out *out, lb_err *err) {
    writer w = {.p = p, .out = out};
    place vocab = {0}, merges = {0};
    layout layouts[2];
    size_t pos = 0;
    lb_status st = LB_OK;
    LB_TRY(locate(p->skeleton, p->score != NULL, &vocab, &merges, err));
    bool has_merges = merges.from != merges.to;
    learn(p->skeleton, vocab.from, vocab.to, !p->score, &layouts[0]);
    if (has_merges)
        learn(p->skeleton, merges.from, merges.to, false, &layouts[1]);
    bool vocab_first = !has_merges || vocab.from < merges.from;
    for (u32 k = 0; k < (has_merges ? 2u : 1u) && st == LB_OK; k++) {
        bool is_vocab = (k == 0) == vocab_first;
        const layout *l = &layouts[is_vocab ? 0 : 1];
        lb_buf_put_str(&out->buf, lb_str_sub(p->skeleton, pos, l->from));
        st = is_vocab ? put_vocab(&w, l, err) : put_merges(&w, l, err);
        pos = l->to;
    }
    lb_buf_put_str(&out->buf, lb_str_sub(p->skeleton, pos, p->skeleton.len));
    lb_out_spill(out);
    lb_buf_deinit(&w.joined);
    return st;
}
