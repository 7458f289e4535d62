/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_tokenize.c: `lbrx tokenize MODEL`: text/encode.h and text/decode.h for people and scripts. */
#include "cli/cli.h"
#include "text/decode.h"
#include <stdio.h>

typedef struct tokenize_opts {
    lb_common common;
    bool jsonl, no_bos, no_special, detokenize;
} tokenize_opts;

static const lb_opt rows[] = {
    {.name = "jsonl",
     .kind = LB_OPT_FLAG,
     .help = "standard input holds one JSON string a line; one JSON array of ids a line comes out",
     .off = offsetof(tokenize_opts, jsonl)},
    {.name = "no-bos",
     .kind = LB_OPT_FLAG,
     .help = "put no special tokens around the text (else as the model's configuration says)",
     .off = offsetof(tokenize_opts, no_bos)},
    {.name = "no-special",
     .kind = LB_OPT_FLAG,
     .help = "texts of special tokens are text as any other; with --detokenize: special tokens "
             "give no text",
     .off = offsetof(tokenize_opts, no_special)},
    {.name = "detokenize",
     .kind = LB_OPT_FLAG,
     .help = "ids to text: TEXT, standard input or each of its lines is an array of ids",
     .off = offsetof(tokenize_opts, detokenize)},
};

/* What is written before the command ends, so that a long result takes little memory. */
enum { OUT_BYTES = 1 << 16, LINE_BYTES_MAX = 1 << 30 };

typedef struct job {
    lb_cli *cli;
    const lb_encoder *e;
    lb_encode_work *work;
    lb_decode_stream *stream;
    lb_buf ids, text;
    lb_arena arena; /* of one line */
    u32 flags;
} job;

static lb_status spill(lb_cli *cli, size_t more_than, lb_err *err) {
    LB_TRY(lb_buf_status(&cli->out, err));
    if (cli->out.len <= more_than)
        return LB_OK;
    if (fwrite(cli->out.ptr, 1, cli->out.len, stdout) != cli->out.len)
        return lb_fail(err, LB_E_IO, "cannot write to standard output");
    lb_buf_reset(&cli->out);
    return LB_OK;
}

/* ---- one text, one list ---- */

static lb_status put_ids(job *j, lb_str text, lb_err *err) {
    lb_buf *out = &j->cli->out;
    lb_buf_reset(&j->ids);
    LB_TRY(lb_encode_run(j->work, text, j->flags, &j->ids, err));
    const u32 *id = (const u32 *)(const void *)j->ids.ptr;
    lb_buf_put_u8(out, '[');
    for (size_t i = 0; i < j->ids.len / 4; i++) {
        if (i)
            lb_buf_put_c(out, ", ");
        lb_buf_put_dec(out, id[i]);
        if (out->len > OUT_BYTES)
            LB_TRY(spill(j->cli, OUT_BYTES, err));
    }
    lb_buf_put_c(out, "]\n");
    return lb_buf_status(out, err);
}

static lb_status put_token(job *j, u64 id, lb_buf *out, lb_err *err) {
    if (id >= lb_encoder_n_vocab(j->e) || lb_encoder_token(j->e, (u32)id, NULL) == LB_TOKEN_NONE)
        return lb_fail(err, LB_E_FORMAT, "%llu: the tokenizer has no such token (it has %llu)",
                       (unsigned long long)id, (unsigned long long)lb_encoder_n_vocab(j->e));
    return lb_decode_put(j->stream, (u32)id, out, err);
}

/* A JSON array, or numbers with blanks or commas between them. */
static lb_status decode(job *j, lb_str list, lb_buf *out, lb_err *err) {
    size_t i = 0, last = list.len;
    bool brackets = false, any = false, comma = false;
    while (i < last && strchr(" \t\r\n", list.ptr[i]))
        i++;
    while (last > i && strchr(" \t\r\n", list.ptr[last - 1]))
        last--;
    brackets = i < last && list.ptr[i] == '[' && list.ptr[last - 1] == ']' && last - i >= 2;
    i += brackets;
    last -= brackets;
    while (i < last) {
        u64 id;
        size_t end = i;
        char c = list.ptr[i];
        if (c == ' ' || c == '\t' || c == '\r' || c == '\n' || (c == ',' && any && !comma)) {
            comma |= c == ',';
            i++;
            continue;
        }
        while (end < last && list.ptr[end] >= '0' && list.ptr[end] <= '9')
            end++;
        if ((any && brackets && !comma) || !lb_str_to_u64(lb_str_sub(list, i, end), &id))
            return lb_fail_at(err, LB_E_FORMAT, i, "a list of ids is expected ([1, 2, 3])");
        LB_TRY(put_token(j, id, out, err));
        any = true;
        comma = false;
        i = end;
    }
    if (comma)
        return lb_fail_at(err, LB_E_FORMAT, i, "a list of ids is expected ([1, 2, 3])");
    return lb_decode_end(j->stream, out, err);
}

static lb_status one(job *j, const tokenize_opts *o, lb_str text, lb_err *err) {
    if (!o->detokenize)
        return put_ids(j, text, err);
    LB_TRY(decode(j, text, &j->cli->out, err));
    lb_buf_put_u8(&j->cli->out, '\n');
    return lb_buf_status(&j->cli->out, err);
}

static lb_status one_line(job *j, const tokenize_opts *o, lb_str line, lb_err *err) {
    lb_json *v;
    if (o->detokenize) {
        size_t i = 0;
        while (i < line.len && strchr(" \t\r", line.ptr[i]))
            i++;
        if (i == line.len || line.ptr[i] != '[')
            return lb_fail_at(err, LB_E_FORMAT, i, "an array of ids is expected ([1, 2, 3])");
        lb_buf_reset(&j->text);
        LB_TRY(decode(j, line, &j->text, err));
        lb_json_write_str(&j->cli->out, lb_buf_str(&j->text), false);
        lb_buf_put_u8(&j->cli->out, '\n');
        return lb_buf_status(&j->cli->out, err);
    }
    lb_arena_reset(&j->arena);
    LB_TRY(lb_json_parse(line, "line", &j->arena, &v, err));
    if (v->type != LB_JSTRING)
        return lb_fail(err, LB_E_FORMAT, "a JSON string is expected");
    return put_ids(j, v->text, err);
}

/* ---- standard input ---- */

static lb_status read_more(lb_buf *in, bool *end, lb_err *err) {
    if (!lb_buf_reserve(in, OUT_BYTES))
        return lb_fail(err, LB_E_NOMEM, "out of memory for standard input: --memory is its limit");
    size_t n = fread(in->ptr + in->len, 1, OUT_BYTES, stdin);
    if (!n && ferror(stdin))
        return lb_fail(err, LB_E_IO, "cannot read standard input");
    in->len += n;
    *end = !n;
    return LB_OK;
}

static lb_status read_whole(job *j, const tokenize_opts *o, lb_err *err) {
    lb_buf in = {0};
    bool end = false;
    lb_status st = LB_OK;
    while (st == LB_OK && !end)
        st = read_more(&in, &end, err);
    if (st == LB_OK)
        st = one(j, o, lb_buf_str(&in), err);
    lb_buf_deinit(&in);
    return st;
}

/* A line is answered as soon as it is there. */
static lb_status read_lines(job *j, const tokenize_opts *o, lb_err *err) {
    lb_buf in = {0};
    u64 n = 1;
    bool end = false;
    lb_status st = LB_OK;
    while (st == LB_OK && !end) {
        size_t done = 0, had = in.len;
        LB_TRY_DONE(st, read_more(&in, &end, err));
        for (size_t from = had; st == LB_OK && done < in.len;) {
            const u8 *p = from < in.len ? memchr(in.ptr + from, '\n', in.len - from) : NULL;
            if (!p && !end)
                break;
            size_t to = p ? (size_t)(p - in.ptr) : in.len;
            st = one_line(j, o, lb_str_sub(lb_buf_str(&in), done, to), err);
            if (st == LB_OK)
                st = spill(j->cli, OUT_BYTES, err);
            if (st != LB_OK)
                lb_err_context(err, "line %llu", (unsigned long long)n);
            n++;
            from = done = LB_MIN(to + 1, in.len);
        }
        memmove(in.ptr, in.ptr + done, in.len - done);
        in.len -= done;
        if (st == LB_OK && in.len > LINE_BYTES_MAX)
            st = lb_fail(err, LB_E_LIMIT, "line %llu: longer than 1 GiB", (unsigned long long)n);
    }
done:
    lb_buf_deinit(&in);
    return st;
}

/* ---- ---- */

static lb_status run(lb_cli *cli, const void *opts, const char *const *args, u32 n_args,
                     lb_err *err) {
    tokenize_opts o = *(const tokenize_opts *)opts;
    lb_source *s = NULL;
    lb_encoder *e = NULL;
    job j = {.cli = cli,
             .flags = (o.no_bos ? 0u : LB_ENCODE_ADD) | (o.no_special ? LB_ENCODE_PLAIN : 0u)};
    lb_status st;
    LB_TRY(lb_common_finish(&o.common, err));
    if (o.jsonl && n_args > 1)
        return lb_fail(err, LB_E_USAGE, "--jsonl reads standard input: no TEXT is taken beside it");
    (void)lb_cli_limit_heap(o.common.memory_bytes);
    LB_TRY_DONE(st, lb_cli_open_planned(cli, &o.common, &s, args[0], err));
    LB_TRY_DONE(st, lb_encoder_open(&e, s, err));
    j.e = e;
    LB_TRY_DONE(st, lb_encode_work_new(&j.work, e, err));
    LB_TRY_DONE(st, lb_decode_begin(&j.stream, e, o.no_special, err));
    st = o.jsonl      ? read_lines(&j, &o, err)
         : n_args > 1 ? one(&j, &o, lb_str_c(args[1]), err)
                      : read_whole(&j, &o, err);
done:
    lb_encode_work_free(&j.work);
    lb_decode_close(&j.stream);
    lb_buf_deinit(&j.ids);
    lb_buf_deinit(&j.text);
    lb_arena_deinit(&j.arena);
    lb_encoder_close(&e);
    lb_source_close(&s);
    return st;
}

const lb_command lb_cmd_tokenize = {
    .name = "tokenize",
    .summary = "Turns text into a model's token ids, or ids into text.",
    .args = "MODEL [TEXT]",
    .examples = {{"ids of a text", "lbrx tokenize model.gguf 'Hello world'"},
                 {"and back", "lbrx tokenize model.gguf --detokenize '[9906, 1917]'"},
                 {"many texts", "lbrx tokenize model/ --jsonl < texts.jsonl"}},
    .details =
        "Without TEXT standard input is the text. Special tokens are added as the model's "
        "configuration says, and texts of special tokens in the input are such tokens. Input that "
        "is not UTF-8 is read with U+FFFD in its place. docs/tokenizers.md says what is known and "
        "where it differs from other programs.",
    .n_args_min = 1,
    .n_args_max = 2,
    .group = {LB_GROUP("Options", rows, 0), LB_GROUP_COMMON(offsetof(tokenize_opts, common))},
    .size_bytes = sizeof(tokenize_opts),
    .run = run,
};
