/* SPDX-License-Identifier: Apache-2.0 */
/* logits.c: golden log-probabilities (tests/golden/logits) and the models that they are of.
 *
 *   logits list FILE                the cases' labels, one a line, and what they have no form in
 *   logits make FILE LABEL DIR      the model's folder: config.json, weights, other files
 *   logits ids FILE LABEL           its text as a line for `lbrx score --jsonl`
 *   logits check FILE LABEL D       what that printed, on stdin: every log-probability within D of
 *                                   the golden one, the likeliest token the same (of those that are
 *                                   nearer to each other than D, any). Prints the largest
 * difference.
 *
 * A case's tensors are [name, type, shape, centre, half width, count...]: "{b}" and "{e}" in a name
 * stand for the numbers below count. A value is centre + half width * (odd / 256), cut to 8
 * significant bits, odd from a hash of the whole name and the element's number. */
#include "base/mem.h"
#include "base/os.h"
#include "io/json.h"
#include "tensor/dtype.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static lb_arena perm;
static lb_err err;

static void die(const char *what, const char *which) {
    fprintf(stderr, "logits: %s: %s\n", what, which);
    exit(1);
}

static lb_str slurp(FILE *f, const char *name) {
    lb_buf b = {0};
    char part[4096];
    size_t n;
    if (!f)
        die("cannot be read", name);
    while ((n = fread(part, 1, sizeof part, f)) > 0)
        lb_buf_put(&b, part, n);
    if (ferror(f) || b.oom)
        die("cannot be read", name);
    lb_str text = {(char *)b.ptr, b.len};
    if (b.ptr && !lb_arena_keep(&perm, b.ptr, b.cap))
        die("out of memory", name);
    return text;
}

static lb_json *parse(lb_str text, const char *what) {
    lb_json *v;
    if (lb_json_parse(text, what, &perm, &v, &err) != LB_OK)
        die(what, err.msg);
    return v;
}

static const lb_json *case_of(const char *file, const char *label) {
    FILE *f = fopen(file, "rb");
    const lb_json *cases = lb_json_get(parse(slurp(f, file), file), "cases");
    fclose(f);
    if (!label)
        return cases;
    for (const lb_json *c = cases->first; c; c = c->next)
        if (lb_str_eq_c(lb_json_get(c, "label")->text, label))
            return c;
    die("has no such case", label);
    return NULL;
}

static double number(const lb_json *v) {
    double x = NAN;
    if (!v || !lb_json_as_f64(v, &x))
        die("golden file", "a number is missing");
    return x;
}

/* ---- make ---- */

static u32 mix(u32 x) {
    x ^= x >> 16;
    x *= 0x85ebca6b;
    x ^= x >> 13;
    x *= 0xc2b2ae35;
    return x ^ x >> 16;
}

static void put_values(lb_buf *out, const char *name, lb_dtype type, u64 n, float centre,
                       float width) {
    u32 h = 2166136261u;
    for (const char *p = name; *p; p++)
        h = (h ^ (u8)*p) * 16777619u;
    for (u64 i = 0; i < n; i++) {
        int odd = (int)(mix(h + (u32)i * 0x9e3779b9u) & 255) * 2 - 255;
        u32 bits = lb_f32_bits(centre + width * ((float)odd / 256)) & 0xffff0000u;
        u8 raw[4];
        if (type == LB_F32) {
            lb_store_u32(raw, bits);
        } else if (type == LB_BF16) {
            lb_store_u16(raw, (u16)(bits >> 16));
        } else if (type == LB_F16) { /* below f16's normal numbers: 0 */
            u32 e = bits >> 23 & 255;
            lb_store_u16(raw, e < 113 ? 0
                                      : (u16)((bits >> 16 & 0x8000) | ((e - 112) << 10) |
                                              (bits >> 13 & 1023)));
        } else {
            die(name, "no type that can be made up");
        }
        lb_buf_put(out, raw, type == LB_F32 ? 4 : 2);
    }
}

typedef struct st_file {
    lb_buf head, data;
} st_file;

/* One tensor; name is complete. */
static void put_tensor(st_file *f, const char *name, const lb_json *t) {
    const lb_json *type = t->first->next, *shape = type->next;
    u64 n = 1, d, at = f->data.len;
    lb_dtype dtype;
    if (!lb_dtype_find_safetensors(type->text, &dtype))
        die(name, "unknown type");
    lb_buf_printf(&f->head, ",\"%s\":{\"dtype\":\"%.*s\",\"shape\":[", name, LB_FMT(type->text));
    for (const lb_json *v = shape->first; v; v = v->next, n *= d) {
        if (!lb_json_as_u64(v, &d))
            die(name, "no shape");
        lb_buf_printf(&f->head, "%s%llu", v == shape->first ? "" : ",", (unsigned long long)d);
    }
    put_values(&f->data, name, dtype, n, (float)number(shape->next),
               (float)number(shape->next->next));
    lb_buf_printf(&f->head, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)at,
                  (unsigned long long)f->data.len);
}

/* The first "{x}" in name becomes a number. */
static void expand(st_file *f, const char *name, const lb_json *t, const lb_json *count) {
    char next[512];
    const char *at = strchr(name, '{');
    if (!at) {
        put_tensor(f, name, t);
        return;
    }
    if (!count)
        die(name, "has no count");
    for (const lb_json *i = count->first; i; i = i->next) {
        u64 k;
        if (!lb_json_as_u64(i, &k))
            die(name, "has no count");
        snprintf(next, sizeof next, "%.*s%llu%s", (int)(at - name), name, (unsigned long long)k,
                 at + 3);
        expand(f, next, t, count->next);
    }
}

static void write_file(const char *dir, const char *name, const void *bytes, size_t n) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(bytes, 1, n, f) != n || fclose(f) != 0)
        die("cannot be written", path);
}

static void make(const lb_json *c, const char *dir) {
    st_file f = {0};
    lb_buf whole = {0};
    char name[512];
    u8 len[8];
    if (lb_os_mkdir(dir, true, &err) != LB_OK)
        die(dir, err.msg);
    lb_buf_put_c(&f.head, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (const lb_json *t = lb_json_get(c, "tensors")->first; t; t = t->next) {
        snprintf(name, sizeof name, "%.*s", LB_FMT(t->first->text));
        expand(&f, name, t, t->first->next->next->next->next->next);
    }
    lb_buf_put_c(&f.head, "}");
    lb_store_u64(len, f.head.len);
    lb_buf_put(&whole, len, 8);
    lb_buf_put(&whole, f.head.ptr, f.head.len);
    lb_buf_put(&whole, f.data.ptr, f.data.len);
    if (whole.oom || f.head.oom || f.data.oom)
        die(dir, "out of memory");
    write_file(dir, "model.safetensors", whole.ptr, whole.len);
    for (const lb_json *v = lb_json_get(c, "files")->first; v; v = v->next) {
        snprintf(name, sizeof name, "%.*s", LB_FMT(v->key));
        write_file(dir, name, v->text.ptr, v->text.len);
    }
    lb_buf_deinit(&f.head);
    lb_buf_deinit(&f.data);
    lb_buf_deinit(&whole);
}

/* ---- check ---- */

/* Golden: "top" holds for each position [id, logprob, id, logprob...], the likeliest first. */
static double off(const lb_json *want, const lb_json *got, double tolerance, u64 *bad) {
    double worst = 0, best = number(want->first->next);
    const lb_json *first = got->first ? got->first->first : NULL;
    bool same = false;
    for (const lb_json *w = want->first; w; w = w->next->next) {
        double p = number(w->next);
        bool found = false;
        same |= first && number(first) == number(w) && best - p <= tolerance;
        for (const lb_json *g = got->first; g; g = g->next)
            if (number(g->first) == number(w)) {
                worst = fmax(worst, fabs(number(g->first->next) - p));
                found = true;
            }
        /* Of the last ones, others may be as likely. */
        if (!found && p - number(got->last->first->next) > tolerance)
            worst = INFINITY;
    }
    *bad += !same;
    return worst;
}

static int check(const lb_json *c, double tolerance) {
    const lb_json *got = parse(slurp(stdin, "stdin"), "what was printed");
    const lb_json *top = lb_json_get(got, "top"), *p = lb_json_get(got, "logprobs");
    const lb_json *want_top = lb_json_get(c, "top"), *want_p = lb_json_get(c, "logprobs");
    double worst = 0;
    u64 bad = 0, n = 0;
    if (!top || !p || top->n != want_top->n || p->n != want_p->n + 1)
        die("stdin", "not as many positions");
    p = p->first->next;
    for (const lb_json *w = want_p->first; w; w = w->next, p = p->next)
        worst = fmax(worst, fabs(number(w) - number(p)));
    top = top->first;
    for (const lb_json *w = want_top->first; w; w = w->next, top = top->next, n++)
        worst = fmax(worst, off(w, top, tolerance, &bad));
    printf("%.3g", worst);
    if (bad)
        printf(", %llu of %llu first tokens", (unsigned long long)bad, (unsigned long long)n);
    putchar('\n');
    return bad || !(worst <= tolerance);
}

int main(int argc, char **argv) {
    if (argc < 3)
        die("usage", "logits list|make|ids|check FILE [LABEL [DIR|D]]");
    const lb_json *c = case_of(argv[2], argc > 3 ? argv[3] : NULL);
    int rc = 0;
    if (strcmp(argv[1], "list") == 0) {
        for (c = c->first; c; c = c->next)
            printf("%.*s %.*s\n", LB_FMT(lb_json_get(c, "label")->text),
                   LB_FMT(lb_json_get(c, "forms")->text));
    } else if (strcmp(argv[1], "make") == 0 && argc > 4) {
        make(c, argv[4]);
    } else if (strcmp(argv[1], "ids") == 0 && argc > 3) {
        printf("{\"ids\":[");
        for (const lb_json *v = lb_json_get(c, "ids")->first; v; v = v->next)
            printf("%.0f%s", number(v), v->next ? "," : "]}\n");
    } else if (strcmp(argv[1], "check") == 0 && argc > 4) {
        rc = check(c, atof(argv[4]));
    } else {
        die("usage", argv[1]);
    }
    lb_arena_deinit(&perm);
    return rc;
}
