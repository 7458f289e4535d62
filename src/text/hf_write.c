/* SPDX-License-Identifier: Apache-2.0 */
/* hf_write.c: cutting a tokenizer.json to its skeleton, and filling one again. */
#include "text/hf_write.h"

#define CHUNK ((size_t)64 << 10)

/* How the entries of an object or list are set. Views of the skeleton. */
typedef struct layout {
    size_t from, to; /* the container in the skeleton, with its brackets */
    u64 n;           /* entries seen: 0, 1 or 2 */
    lb_str open, join, close;
    lb_str colon; /* vocab: from behind the key to the value */
    bool pairs;   /* merges: lists of two */
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

/* One entry of model.merges at i: a string, or a list of two. */
static size_t merge_entry(lb_str s, size_t i, layout *l) {
    l->pairs = i < s.len && s.ptr[i] == '[';
    if (!l->pairs)
        return skip_string(s, i);
    size_t a = skip_space(s, i + 1), a_end = skip_string(s, a);
    size_t b = skip_space(s, a_end);
    b = skip_space(s, b + (b < s.len && s.ptr[b] == ','));
    size_t b_end = skip_string(s, b), close = skip_space(s, b_end);
    l->in_open = lb_str_sub(s, i, a);
    l->in_join = lb_str_sub(s, a_end, b);
    l->in_close = lb_str_sub(s, b_end, close + 1);
    return LB_MIN(close + 1, s.len);
}

/* Learns from the container at [from, to), valid JSON of at most two entries. */
static void learn(lb_str s, size_t from, size_t to, bool vocab, layout *l) {
    lb_str text = lb_str_sub(s, 0, to);
    *l = (layout){.from = from, .to = to};
    size_t first = skip_space(text, from + 1);
    if (first + 1 >= to) { /* empty */
        l->open = lb_str_sub(text, from, to - 1);
        l->close = lb_str_sub(text, to - 1, to);
        return;
    }
    size_t end = vocab ? vocab_entry(text, first, l) : merge_entry(text, first, l);
    l->open = lb_str_sub(text, from, first);
    l->n = 1;
    size_t comma = skip_space(text, end);
    if (comma < to && text.ptr[comma] == ',') {
        size_t second = skip_space(text, comma + 1);
        l->join = lb_str_sub(text, end, second);
        end = vocab ? vocab_entry(text, second, l) : merge_entry(text, second, l);
        l->n = 2;
    }
    l->close = lb_str_sub(text, end, to);
}

/* ---- writing ---- */

typedef struct writer {
    const lb_hf_parts *p;
    const lb_hf_sink *sink;
    lb_buf buf, joined;
    bool stopped;
} writer;

static void flush(writer *w, size_t least) {
    if (w->buf.len < least || w->stopped || w->buf.oom)
        return;
    w->stopped = !w->sink->put(w->sink->ctx, lb_buf_str(&w->buf));
    lb_buf_reset(&w->buf);
}

static lb_status put_vocab(writer *w, const layout *l, lb_err *err) {
    bool first = true;
    lb_buf_put_str(&w->buf, l->open);
    for (u64 i = 0; i < w->p->n_ids && !w->stopped; i++) {
        if (!w->p->token[i].ptr)
            continue;
        if (l->n < (first ? 1 : 2))
            return lb_fail(err, LB_E_FORMAT, "skeleton: model.vocab shows too few entries");
        lb_buf_put_str(&w->buf, first ? LB_STR_NONE : l->join);
        lb_json_write_str(&w->buf, w->p->token[i], w->p->ascii);
        lb_buf_put_str(&w->buf, l->colon);
        lb_buf_printf(&w->buf, "%llu", (unsigned long long)i);
        first = false;
        flush(w, CHUNK);
    }
    lb_buf_put_str(&w->buf, l->close);
    return LB_OK;
}

static lb_status put_merges(writer *w, const layout *l, lb_err *err) {
    lb_buf_put_str(&w->buf, l->open);
    for (u64 i = 0; i < w->p->n_merges && !w->stopped; i++) {
        lb_str left = w->p->merge[2 * i], right = w->p->merge[2 * i + 1];
        if (l->n < (i ? 2 : 1))
            return lb_fail(err, LB_E_FORMAT, "skeleton: model.merges shows too few entries");
        lb_buf_put_str(&w->buf, i ? l->join : LB_STR_NONE);
        if (l->pairs) {
            lb_buf_put_str(&w->buf, l->in_open);
            lb_json_write_str(&w->buf, left, w->p->ascii);
            lb_buf_put_str(&w->buf, l->in_join);
            lb_json_write_str(&w->buf, right, w->p->ascii);
            lb_buf_put_str(&w->buf, l->in_close);
        } else {
            lb_buf_reset(&w->joined);
            lb_buf_put_str(&w->joined, left);
            lb_buf_put_u8(&w->joined, ' ');
            lb_buf_put_str(&w->joined, right);
            lb_json_write_str(&w->buf, lb_buf_str(&w->joined), w->p->ascii);
        }
        flush(w, CHUNK);
    }
    lb_buf_put_str(&w->buf, l->close);
    return LB_OK;
}

/* Where a container of the skeleton stands. */
static void place(lb_str skeleton, lb_str part, size_t *from, size_t *to) {
    *from = part.len ? (size_t)(part.ptr - skeleton.ptr) : 0;
    *to = *from + part.len;
}

lb_status lb_hf_write(const lb_hf_parts *p, const lb_hf_sink *sink, lb_err *err) {
    lb_arena arena = {0};
    lb_hf_tok t;
    writer w = {.p = p, .sink = sink};
    size_t from, to, pos = 0;
    layout layouts[2];
    lb_status st = lb_hf_tok_parse_rest(&t, p->skeleton, "skeleton", &arena, err);
    if (st != LB_OK)
        goto done;
    if (t.n_vocab > 2 || t.n_merges > 2 || t.kind == LB_HF_UNIGRAM) {
        st = lb_fail(err, LB_E_FORMAT, "skeleton: more than two entries");
        goto done;
    }
    place(p->skeleton, t.vocab_text, &from, &to);
    learn(p->skeleton, from, to, true, &layouts[0]);
    place(p->skeleton, t.merges_text, &from, &to);
    bool has_merges = from != to;
    if (has_merges)
        learn(p->skeleton, from, to, false, &layouts[1]);
    bool vocab_first = !has_merges || layouts[0].from < layouts[1].from;
    for (u32 k = 0; k < (has_merges ? 2u : 1u); k++) {
        bool vocab = (k == 0) == vocab_first;
        const layout *l = &layouts[vocab ? 0 : 1];
        lb_buf_put_str(&w.buf, lb_str_sub(p->skeleton, pos, l->from));
        LB_TRY_DONE(st, vocab ? put_vocab(&w, l, err) : put_merges(&w, l, err));
        pos = l->to;
    }
    lb_buf_put_str(&w.buf, lb_str_sub(p->skeleton, pos, p->skeleton.len));
    LB_TRY_DONE(st, lb_buf_status(&w.buf, err));
    LB_TRY_DONE(st, lb_buf_status(&w.joined, err));
    flush(&w, 1);
done:
    lb_buf_deinit(&w.buf);
    lb_buf_deinit(&w.joined);
    lb_hf_tok_deinit(&t);
    lb_arena_deinit(&arena);
    return st;
}

/* ---- cutting ---- */

/* The container's text without the entries behind the second. */
static void cut(lb_str text, lb_str part, bool vocab, lb_buf *out) {
    layout l;
    size_t from, to;
    place(text, part, &from, &to);
    size_t first = skip_space(text, from + 1), end = first;
    if (first + 1 >= to) {
        lb_buf_put_str(out, part);
        return;
    }
    for (u32 n = 0; n < 2; n++) {
        end = vocab ? vocab_entry(text, first, &l) : merge_entry(text, first, &l);
        size_t comma = skip_space(text, end);
        if (comma >= to || text.ptr[comma] != ',')
            break;
        first = skip_space(text, comma + 1);
    }
    size_t close = to - 1; /* the bracket, with the white space before it */
    while (close > end && strchr(" \t\r\n", text.ptr[close - 1]))
        close--;
    lb_buf_put_str(out, lb_str_sub(text, from, end));
    lb_buf_put_str(out, lb_str_sub(text, close, to));
}

lb_status lb_hf_skeleton(const lb_hf_tok *t, lb_str text, lb_arena *arena, lb_str *out,
                         lb_err *err) {
    lb_buf b = {0};
    size_t pos = 0, from, to;
    bool merges = t->merges_text.len != 0;
    bool vocab_first = !merges || t->vocab_text.ptr < t->merges_text.ptr;
    for (u32 k = 0; k < (merges ? 2u : 1u); k++) {
        bool vocab = (k == 0) == vocab_first;
        lb_str part = vocab ? t->vocab_text : t->merges_text;
        place(text, part, &from, &to);
        lb_buf_put_str(&b, lb_str_sub(text, pos, from));
        cut(text, part, vocab, &b);
        pos = to;
    }
    lb_buf_put_str(&b, lb_str_sub(text, pos, text.len));
    lb_status st = lb_buf_status(&b, err);
    if (st == LB_OK) {
        *out = lb_arena_str(arena, lb_buf_str(&b));
        if (!out->ptr)
            st = lb_fail(err, LB_E_NOMEM, "tokenizer.json: out of memory");
    }
    lb_buf_deinit(&b);
    return st;
}
