/* SPDX-License-Identifier: Apache-2.0 */
/* The safetensors reader: goldens of the peers, the accept and refuse lists, damage, size. */
#include "base/os.h"
#include "format/safetensors.h"
#include "st_files.h"
#include "test.h"

#include <stdlib.h>
#include <time.h>

#define ENTRY(dtype, shape, offsets) \
    "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

typedef struct parsed {
    lb_arena perm, scratch;
    lb_st_dir dir;
} parsed;

static lb_status parse(parsed *p, const char *header, u64 data_bytes, lb_err *err) {
    lb_str text = lb_str_c(header);
    *p = (parsed){0};
    return lb_st_parse(text, 8 + text.len + data_bytes, &p->perm, &p->scratch, &p->dir, err);
}

static void drop(parsed *p) {
    lb_arena_deinit(&p->perm);
    lb_arena_deinit(&p->scratch);
}

/* What the rest of the program relies on. */
static bool is_sound(const lb_st_dir *d, u64 size_bytes) {
    u64 end = d->data_off_bytes;
    for (u64 i = 0; i < d->n_tensors; i++) {
        const lb_tensor *t = &d->tensors[i];
        u64 n, bytes;
        if (t->off_bytes != end || !lb_shape_elems(&t->shape, &n) || n != t->n_elems ||
            !lb_dtype_bytes(t->dtype, n, &bytes) || bytes != t->size_bytes ||
            !lb_str_is_utf8(t->name))
            return false;
        end += t->size_bytes;
    }
    return end == size_bytes;
}

/* ---- goldens ---- */

LB_TEST(every_dtype) {
    static const struct {
        const char *name;
        lb_dtype dtype;
        u64 size;
    } want[] = {
        {"t.BOOL", LB_BOOL, 8},
        {"t.F4", LB_F4, 4},
        {"t.F6_E2M3", LB_F6_E2M3, 6},
        {"t.F6_E3M2", LB_F6_E3M2, 6},
        {"t.U8", LB_U8, 8},
        {"t.I8", LB_I8, 8},
        {"t.F8_E5M2", LB_F8_E5M2, 8},
        {"t.F8_E4M3", LB_F8_E4M3, 8},
        {"t.F8_E8M0", LB_F8_E8M0, 8},
        {"t.F8_E4M3FNUZ", LB_F8_E4M3FNUZ, 8},
        {"t.F8_E5M2FNUZ", LB_F8_E5M2FNUZ, 8},
        {"t.I16", LB_I16, 16},
        {"t.U16", LB_U16, 16},
        {"t.F16", LB_F16, 16},
        {"t.BF16", LB_BF16, 16},
        {"t.I32", LB_I32, 32},
        {"t.U32", LB_U32, 32},
        {"t.F32", LB_F32, 32},
        {"t.C64", LB_C64, 64},
        {"t.F64", LB_F64, 64},
        {"t.I64", LB_I64, 64},
        {"t.U64", LB_U64, 64},
    };
    lb_err err;
    lb_source *s;
    CHECK_OK(lb_st_open(&s, lb_test_golden("st/dtypes.safetensors"), &err));
    CHECK_U64(s->format, LB_FORMAT_SAFETENSORS);
    CHECK_U64(s->n_tensors, LB_LEN(want));
    CHECK_U64(s->n_weights, LB_LEN(want));
    CHECK_STR(s->label, "dtypes.safetensors");
    for (size_t i = 0; i < LB_LEN(want); i++) {
        const lb_tensor *t = lb_source_tensor(s, lb_str_c(want[i].name));
        CHECK(t && t->dtype == want[i].dtype && t->size_bytes == want[i].size);
        CHECK(t == &s->tensors[i] && t->shape.rank == 2 && t->n_elems == 8);
        CHECK_U64(s->weights[i].part[0], i);
        CHECK_U64(s->weights[i].enc.kind, LB_ENC_PLAIN);
    }
    lb_source_close(&s);
}

LB_TEST(shapes_names_metadata) {
    lb_err err;
    lb_source *s;
    lb_arena arena = {0};
    lb_str text;
    CHECK_OK(lb_st_open(&s, lb_test_golden("st/shapes.safetensors"), &err));
    CHECK_U64(s->n_tensors, 8);
    const lb_tensor *t = lb_source_tensor(s, LB_STR("scalar"));
    CHECK(t && t->shape.rank == 0 && t->n_elems == 1 && t->size_bytes == 4);
    t = lb_source_tensor(s, LB_STR("hole"));
    CHECK(t && t->shape.rank == 3 && t->shape.dim[1] == 0 && t->n_elems == 0 && t->size_bytes == 0);
    t = lb_source_tensor(s, LB_STR("rank8"));
    CHECK(t && t->shape.rank == 8 && t->n_elems == 4);
    t = lb_source_tensor(s, LB_STR("odd"));
    CHECK(t && t->size_bytes == 7);
    CHECK(lb_source_tensor(s, LB_STR("name with \"quotes\", \\ and \t")));
    CHECK(lb_source_tensor(s, LB_STR("\xc3\xbcn\xc3\xaf/\xf0\x9f\x98\x80")));
    CHECK(lb_source_tensor(s, LB_STR("")));
    CHECK(lb_st_metadata_find(s->st_metadata, LB_STR("format"), &arena, &text));
    CHECK_STR(text, "np");
    CHECK(lb_st_metadata_find(s->st_metadata, LB_STR("note"), &arena, &text));
    CHECK_STR(text, "line\nbreak \"q\" \xc3\xa9");
    CHECK(!lb_st_metadata_find(s->st_metadata, LB_STR("no"), &arena, &text));
    CHECK(!lb_st_metadata_find(LB_STR_NONE, LB_STR("no"), &arena, &text));
    lb_arena_deinit(&arena);
    lb_source_close(&s);
}

LB_TEST(mlx_file_is_unaligned) {
    lb_err err;
    lb_source *s;
    bool odd = false;
    CHECK_OK(lb_st_open(&s, lb_test_golden("st/mlx.safetensors"), &err));
    CHECK_U64(s->n_tensors, 4);
    for (u64 i = 0; i < s->n_tensors; i++)
        odd = odd || s->tensors[i].off_bytes % 2 != 0;
    CHECK(odd);
    CHECK_STR(s->st_metadata, "{\"format\":\"mlx\"}");
    const lb_tensor *t = lb_source_tensor(s, LB_STR("b.weight"));
    size_t len;
    u8 *bytes = st_slurp(s->files[0].path, &len);
    float second;
    CHECK(t && t->off_bytes + t->size_bytes <= len);
    memcpy(&second, bytes + t->off_bytes + 4, 4);
    lb_free(bytes);
    CHECK(second == 1.0f);
    lb_source_close(&s);
}

/* ---- accepted and refused ---- */

LB_TEST(accepts_what_the_crate_accepts) {
    static const struct {
        const char *header;
        u64 data_bytes, n;
    } ok[] = {
        {"{}", 0, 0},
        {"{}   ", 0, 0},
        {"{}\r\n\t ", 0, 0},
        {" \t\n{}", 0, 0},
        {"{\"__metadata__\":null}", 0, 0},
        {"{\"__metadata__\":{}}", 0, 0},
        {"{\"__metadata__\":{\"a\":\"b\",\"\":\"\"}}", 0, 0},
        {"{\"a\":" ENTRY("F32", "[]", "[0,4]") "}", 4, 1},
        {"{\"a\":" ENTRY("F32", "[0]", "[0,0]") ",\"b\":" ENTRY("I8", "[3]", "[0,3]") "}", 3, 2},
        {"{\"b\":" ENTRY("I8", "[3]", "[0,3]") ",\"a\":" ENTRY("F32", "[0]", "[0,0]") "}", 3, 2},
        {"{\"a\":" ENTRY("F32", "[0]", "[0,0]") ",\"b\":" ENTRY("I8", "[0]", "[0,0]") "}", 0, 2},
        {"{\"b\":" ENTRY("I8", "[3]", "[4,7]") ",\"a\":" ENTRY("F32", "[1]", "[0,4]") "}", 7, 2},
        {"{\"a\":" ENTRY("F4", "[1,2]", "[0,1]") "}", 1, 1},
        {"{\"a\":" ENTRY("F4", "[3,1,2]", "[0,3]") "}", 3, 1},
        {"{\"a\":" ENTRY("F6_E3M2", "[2,2]", "[0,3]") "}", 3, 1},
        {"{\"a\\ud83d\\ude00\":" ENTRY("F16", "[1]", "[0,2]") "}", 2, 1},
        {"{\"\\u0061\":{\"\\u0064type\":\"F\\u00316\",\"shape\":[1],\"data_offsets\":[0,2]}}", 2,
         1},
        {"{\"a\":{\"x\":[1,{\"y\":[null,true,\"\\n\",-1.5e3]}],\"shape\":[1],\"data_offsets\":[0,2]"
         ","
         "\"dtype\":\"F16\",\"z\":{}}}",
         2, 1},
        {"{\"a\":" ENTRY("U8", "[1,1,1,1,1,1,1,5]", "[0,5]") "}", 5, 1},
    };
    for (size_t i = 0; i < LB_LEN(ok); i++) {
        lb_err err = {0};
        parsed p;
        lb_status st = parse(&p, ok[i].header, ok[i].data_bytes, &err);
        if (st != LB_OK || p.dir.n_tensors != ok[i].n ||
            !is_sound(&p.dir, 8 + strlen(ok[i].header) + ok[i].data_bytes))
            lb_test_fail(__FILE__, __LINE__, "%s: %s", ok[i].header, err.msg);
        drop(&p);
    }
}

typedef struct refusal {
    const char *header;
    u64 data_bytes;
    lb_status code;
    const char *says;
} refusal;

static void check_refusals(const refusal *list, size_t n) {
    for (size_t i = 0; i < n; i++) {
        lb_err err = {0};
        parsed p;
        lb_status st = parse(&p, list[i].header, list[i].data_bytes, &err);
        if (st != list[i].code || !strstr(err.msg, list[i].says))
            lb_test_fail(__FILE__, __LINE__, "%s: status %d, \"%s\"", list[i].header, (int)st,
                         err.msg);
        drop(&p);
    }
}

LB_TEST(refuses_broken_json) {
    static const refusal list[] = {
        {"", 0, LB_E_FORMAT, ""},
        {"   ", 0, LB_E_FORMAT, ""},
        {"[]", 0, LB_E_FORMAT, "not a JSON object"},
        {"\"a\"", 0, LB_E_FORMAT, "not a JSON object"},
        {"{", 0, LB_E_FORMAT, ""},
        {"{}{}", 0, LB_E_FORMAT, ""},
        {"{}x", 0, LB_E_FORMAT, ""},
        {"{},", 0, LB_E_FORMAT, ""},
        {"{\"a\":1,}", 0, LB_E_FORMAT, ""},
        {"\xef\xbb\xbf{}", 0, LB_E_FORMAT, ""},
        {"{\"\xff\":" ENTRY("U8", "[]", "[0,1]") "}", 1, LB_E_FORMAT, ""},
        {"{\"\xed\xa0\x80\":" ENTRY("U8", "[]", "[0,1]") "}", 1, LB_E_FORMAT, ""},
        {"{\"a\tb\":" ENTRY("U8", "[]", "[0,1]") "}", 1, LB_E_FORMAT, ""},
        {"{\"a\\ud83d\":" ENTRY("U8", "[]", "[0,1]") "}", 1, LB_E_FORMAT, "surrogate"},
        {"{\"__metadata__\":{\"a\":\"\\ud800\"}}", 0, LB_E_FORMAT, "surrogate"},
        {"{\"__metadata__\":{\"a\":1}}", 0, LB_E_FORMAT, "is not a string"},
        {"{\"__metadata__\":{\"a\":{}}}", 0, LB_E_FORMAT, "is not a string"},
        {"{\"__metadata__\":[]}", 0, LB_E_FORMAT, "not an object"},
        {"{\"__metadata__\":{\"a\":\"\",\"\\u0061\":\"\"}}", 0, LB_E_FORMAT, "'a' stands twice"},
        {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, LB_E_FORMAT, "__metadata__ stands twice"},
        {"{\"a\":" ENTRY("U8", "[]", "[0,1]") ",\"\\u0061\":" ENTRY("U8", "[]", "[1,2]") "}", 2,
         LB_E_FORMAT, "tensor 'a' stands twice"},
        {"{\"a\":{\"x\":[1e400],\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", 1,
         LB_E_FORMAT, "finite"},
        {"{\"a\":{\"x\":NaN,\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", 1, LB_E_FORMAT,
         "finite"},
        {"{\"a\":{\"x\":\"\\udc00\",\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", 1,
         LB_E_FORMAT, "surrogate"},
    };
    check_refusals(list, LB_LEN(list));
}

LB_TEST(refuses_broken_entries) {
    static const refusal list[] = {
        {"{\"a\":1}", 0, LB_E_FORMAT, "not an object"},
        {"{\"a\":[\"U8\",[1],[0,1]]}", 1, LB_E_FORMAT, "not an object"},
        {"{\"a\":{}}", 0, LB_E_FORMAT, "dtype is missing"},
        {"{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1, LB_E_FORMAT, "shape is missing"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[]}}", 1, LB_E_FORMAT, "data_offsets is missing"},
        {"{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", 1,
         LB_E_FORMAT, "dtype stands twice"},
        {"{\"a\":{\"dtype\":{\"U8\":null},\"shape\":[],\"data_offsets\":[0,1]}}", 1, LB_E_FORMAT,
         "dtype is not a string"},
        {"{\"a\":" ENTRY("u8", "[]", "[0,1]") "}", 1, LB_E_UNSUPPORTED, "dtype 'u8' is not known"},
        {"{\"a\":" ENTRY("Q4_K", "[256]", "[0,144]") "}", 144, LB_E_UNSUPPORTED, "'Q4_K'"},
        {"{\"a\":" ENTRY("U8", "1", "[0,1]") "}", 1, LB_E_FORMAT, "shape is not an array"},
        {"{\"a\":" ENTRY("U8", "[-1]", "[0,1]") "}", 1, LB_E_FORMAT, "shape is not"},
        {"{\"a\":" ENTRY("U8", "[1.0]", "[0,1]") "}", 1, LB_E_FORMAT, "shape is not"},
        {"{\"a\":" ENTRY("U8", "[1e0]", "[0,1]") "}", 1, LB_E_FORMAT, "shape is not"},
        {"{\"a\":" ENTRY("U8", "[01]", "[0,1]") "}", 1, LB_E_FORMAT, ""},
        {"{\"a\":" ENTRY("U8", "[\"1\"]", "[0,1]") "}", 1, LB_E_FORMAT, "shape is not"},
        {"{\"a\":" ENTRY("U8", "[18446744073709551616]", "[0,1]") "}", 1, LB_E_FORMAT,
         "shape is not"},
        {"{\"a\":" ENTRY("U8", "[1,1,1,1,1,1,1,1,1]", "[0,1]") "}", 1, LB_E_LIMIT, "8 dimensions"},
        {"{\"a\":" ENTRY("U8", "[4294967296,4294967296]", "[0,1]") "}", 1, LB_E_FORMAT, "overflow"},
        {"{\"a\":" ENTRY("F64", "[2305843009213693952]", "[0,0]") "}", 0, LB_E_FORMAT, "overflow"},
        {"{\"a\":" ENTRY("F64", "[2305843009213693953]", "[0,8]") "}", 8, LB_E_FORMAT, "overflow"},
        {"{\"a\":" ENTRY("U8", "[1]", "{}") "}", 1, LB_E_FORMAT, "data_offsets is not an array"},
        {"{\"a\":" ENTRY("U8", "[1]", "[0]") "}", 1, LB_E_FORMAT, "pair"},
        {"{\"a\":" ENTRY("U8", "[1]", "[0,1,1]") "}", 1, LB_E_FORMAT, "pair"},
        {"{\"a\":" ENTRY("U8", "[1]", "[-0,1]") "}", 1, LB_E_FORMAT, "pair"},
        {"{\"a\":" ENTRY("U8", "[1]", "[1,0]") "}", 1, LB_E_FORMAT, "outside"},
        {"{\"a\":" ENTRY("U8", "[1]", "[0,2]") "}", 1, LB_E_FORMAT, "outside"},
        {"{\"a\":" ENTRY("U8", "[1]", "[18446744073709551615,18446744073709551615]") "}", 1,
         LB_E_FORMAT, "outside"},
        {"{\"a\":" ENTRY("I32", "[2,2]", "[0,4]") "}", 16, LB_E_FORMAT, "needs 16 bytes"},
        {"{\"a\":" ENTRY("F4", "[3]", "[0,2]") "}", 2, LB_E_FORMAT, "whole bytes"},
        {"{\"a\":" ENTRY("F6_E2M3", "[2]", "[0,2]") "}", 2, LB_E_FORMAT, "whole bytes"},
    };
    check_refusals(list, LB_LEN(list));
}

LB_TEST(refuses_holes_and_overlap) {
    static const refusal list[] = {
        {"{}", 1, LB_E_FORMAT, "trailing"},
        {"{\"a\":" ENTRY("U8", "[1]", "[0,1]") "}", 2, LB_E_FORMAT, "trailing"},
        {"{\"a\":" ENTRY("U8", "[1]", "[1,2]") "}", 2, LB_E_FORMAT, "hole"},
        {"{\"a\":" ENTRY("U8", "[0]", "[1,1]") "}", 1, LB_E_FORMAT, "hole"},
        {"{\"a\":" ENTRY("U8", "[2]", "[0,2]") ",\"b\":" ENTRY("U8", "[2]", "[3,5]") "}", 5,
         LB_E_FORMAT, "tensor 'b'"},
        {"{\"a\":" ENTRY("U8", "[2]", "[0,2]") ",\"b\":" ENTRY("U8", "[2]", "[1,3]") "}", 3,
         LB_E_FORMAT, "overlap"},
        {"{\"a\":" ENTRY("U8", "[2]", "[0,2]") ",\"b\":" ENTRY("U8", "[2]", "[0,2]") "}", 2,
         LB_E_FORMAT, "overlap"},
        {"{\"a\":" ENTRY("U8", "[3]", "[0,3]") ",\"b\":" ENTRY("U8", "[0]", "[1,1]") "}", 3,
         LB_E_FORMAT, "overlap"},
    };
    check_refusals(list, LB_LEN(list));
}

LB_TEST(refuses_files) {
    static const struct {
        const char *name, *bytes;
        size_t len;
        const char *says;
    } list[] = {
        {"empty", "", 0, "no room for the header length"},
        {"seven", "\2\0\0\0\0\0\0", 7, "no room"},
        {"length", "\3\0\0\0\0\0\0\0{}", 10, "above the rest of the file: 2"},
        {"huge", "\xff\xff\xff\xff\xff\xff\xff\xff{}", 10, "above the limit of 100000000"},
        {"limit", "\1\xe1\xf5\5\0\0\0\0{}", 10, "header length 100000001 is above the limit"},
        {"lfs", "version https://git-lfs.github.com/spec/v1\n", 43, "Git LFS pointer"},
        {"zip", "PK\3\4\x14\0\x08\x08\x08\0", 10, "zip archive"},
        {"gguf", "GGUF\3\0\0\0\0\0", 10, "GGUF"},
        {"zero", "\0\0\0\0\0\0\0\0", 8, ""},
    };
    const char *dir = st_dir("refused");
    for (size_t i = 0; i < LB_LEN(list); i++) {
        lb_err err = {0};
        lb_source *s;
        u64 before = lb_mem_count();
        st_write(dir, list[i].name, list[i].bytes, list[i].len);
        CHECK(lb_st_open(&s, st_path(dir, list[i].name), &err) == LB_E_FORMAT);
        if (s || !strstr(err.msg, list[i].says) || !strstr(err.msg, list[i].name))
            lb_test_fail(__FILE__, __LINE__, "%s: \"%s\"", list[i].name, err.msg);
        CHECK(lb_mem_count() - before < 20);
    }
    lb_err err = {0};
    lb_source *s;
    CHECK(lb_st_open(&s, st_path(dir, "absent"), &err) == LB_E_NOT_FOUND);
    CHECK(lb_st_open(&s, dir, &err) == LB_E_FORMAT);
}

/* ---- damage ---- */

static const char *const goldens[] = {"st/dtypes.safetensors", "st/shapes.safetensors",
                                      "st/mlx.safetensors"};

/* Every shorter file is refused, whether the cut lies in the header or in the data. */
LB_TEST(truncation_at_every_byte) {
    const char *dir = st_dir("cut");
    for (size_t g = 0; g < LB_LEN(goldens); g++) {
        size_t len;
        u8 *bytes = st_slurp(lb_test_golden(goldens[g]), &len);
        for (size_t cut = 0; cut < len; cut++) {
            lb_err err = {0};
            lb_source *s;
            st_write(dir, "f", bytes, cut);
            lb_status st = lb_st_open(&s, st_path(dir, "f"), &err);
            if (st != LB_E_FORMAT)
                lb_test_fail(__FILE__, __LINE__, "%s cut at %zu: %s", goldens[g], cut, err.msg);
            lb_source_close(&s);
        }
        lb_free(bytes);
    }
}

/* The header alone, cut, in a buffer of that size: the parser must see the end. */
LB_TEST(header_prefixes) {
    for (size_t g = 0; g < LB_LEN(goldens); g++) {
        size_t len;
        u8 *bytes = st_slurp(lb_test_golden(goldens[g]), &len);
        size_t header = (size_t)lb_load_u64(bytes);
        while (header && bytes[8 + header - 1] == ' ')
            header--;
        for (size_t cut = 0; cut < header; cut++) {
            lb_err err = {0};
            lb_arena perm = {0}, scratch = {0};
            lb_st_dir dir;
            char *copy = lb_alloc(cut);
            CHECK(copy != NULL);
            memcpy(copy, bytes + 8, cut);
            lb_status st = lb_st_parse((lb_str){copy, cut}, len, &perm, &scratch, &dir, &err);
            if (st != LB_E_FORMAT && st != LB_E_UNSUPPORTED)
                lb_test_fail(__FILE__, __LINE__, "%s: prefix of %zu: status %d", goldens[g], cut,
                             (int)st);
            lb_free(copy);
            lb_arena_deinit(&perm);
            lb_arena_deinit(&scratch);
        }
        lb_free(bytes);
    }
}

LB_TEST(bit_flips) {
    u64 n_accepted = 0, n_refused = 0;
    for (size_t g = 0; g < LB_LEN(goldens); g++) {
        size_t len;
        u8 *bytes = st_slurp(lb_test_golden(goldens[g]), &len);
        size_t header = (size_t)lb_load_u64(bytes);
        for (u32 i = 0; i < 8000; i++) {
            parsed p = {0};
            lb_err err = {0};
            u64 n_flips = 1 + lb_test_rand_below(3), bit[3];
            for (u64 k = 0; k < n_flips; k++) {
                bit[k] = lb_test_rand_below(header * 8);
                bytes[8 + bit[k] / 8] ^= (u8)(1u << (bit[k] % 8));
            }
            lb_str text = {(char *)bytes + 8, header};
            lb_status st = lb_st_parse(text, len, &p.perm, &p.scratch, &p.dir, &err);
            if (st == LB_OK ? !is_sound(&p.dir, len) : err.msg[0] == 0)
                lb_test_fail(__FILE__, __LINE__, "%s: flip %u", goldens[g], i);
            n_accepted += st == LB_OK;
            n_refused += st != LB_OK;
            for (u64 k = 0; k < n_flips; k++)
                bytes[8 + bit[k] / 8] ^= (u8)(1u << (bit[k] % 8));
            drop(&p);
        }
        lb_free(bytes);
    }
    CHECK(n_accepted > 100 &&
          n_refused > 10000); /* names and texts may change, structure may not */
}

LB_TEST(allocation_failures) {
    for (size_t g = 0; g < LB_LEN(goldens); g++) {
        char path[512];
        (void)snprintf(path, sizeof path, "%s", lb_test_golden(goldens[g]));
        lb_status st = LB_E_NOMEM;
        for (u64 n = 1; st != LB_OK; n++) {
            lb_err err = {0};
            lb_source *s;
            lb_mem_fail_at(n);
            st = lb_st_open(&s, path, &err);
            lb_mem_fail_at(0);
            CHECK((st == LB_OK) == (s != NULL));
            CHECK(st == LB_OK || (st == LB_E_NOMEM && err.msg[0]));
            CHECK(n < 2000);
            lb_source_close(&s);
        }
    }
}

/* ---- size ---- */

static void put_many(lb_buf *b, u64 n, bool in_order) {
    lb_buf_put_c(b, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (u64 i = 0; i < n; i++) {
        u64 at = in_order ? i : n - 1 - i;
        lb_buf_printf(
            b,
            ",\"model.layers.%llu.mlp.experts.%llu.down_proj.weight\":{\"dtype\":\"BF16\","
            "\"shape\":[4096,14336],\"data_offsets\":[%llu,%llu]}",
            (unsigned long long)(at / 512), (unsigned long long)(at % 512),
            (unsigned long long)(at * 117440512), (unsigned long long)((at + 1) * 117440512));
    }
    lb_buf_put_c(b, "}");
}

LB_TEST(a_hundred_thousand_tensors) {
    const u64 n = lb_test_cases(100000);
    for (u32 in_order = 0; in_order < 2; in_order++) {
        lb_buf b = {0};
        double best = 1e9;
        put_many(&b, n, in_order);
        for (u32 i = 0; i < (lb_test_timed() ? 5 : 1); i++) {
            lb_err err = {0};
            parsed p = {0};
            clock_t start = clock();
            CHECK_OK(lb_st_parse(lb_buf_str(&b), 8 + b.len + n * 117440512, &p.perm, &p.scratch,
                                 &p.dir, &err));
            double s = (double)(clock() - start) / CLOCKS_PER_SEC;
            best = s < best ? s : best;
            CHECK_U64(p.dir.n_tensors, n);
            CHECK_STR(p.dir.tensors[777].name, "model.layers.1.mlp.experts.265.down_proj.weight");
            CHECK(p.perm.size_bytes + p.scratch.size_bytes < 4 * b.len);
            drop(&p);
        }
        printf("%llu tensors, header of %.1f MB, %s: %.3f s\n", (unsigned long long)n,
               (double)b.len / 1e6, in_order ? "in order" : "in reverse order", best);
        CHECK(!lb_test_timed() || best < 0.15);
        lb_buf_deinit(&b);
    }
}

LB_TEST(deep_nesting_is_refused) {
    lb_buf b = {0};
    lb_err err = {0};
    parsed p = {0};
    lb_buf_put_c(&b, "{\"a\":{\"x\":");
    for (u32 i = 0; i < 1000000; i++)
        lb_buf_put_u8(&b, '[');
    CHECK(lb_st_parse(lb_buf_str(&b), 8 + b.len, &p.perm, &p.scratch, &p.dir, &err) != LB_OK);
    CHECK(p.perm.size_bytes + p.scratch.size_bytes < LB_MIB);
    drop(&p);
    lb_buf_deinit(&b);
}

/* ---- verdicts for tests/peers/peer_safetensors.py ----
 * A file of records [u64 length][file bytes]; one line each: "no <message>" or "ok" and the tensors
 * as name in hex, type, dims, begin, end, by offset. */

static void verdict(const u8 *file, u64 len) {
    lb_arena perm = {0}, scratch = {0};
    lb_st_dir dir;
    lb_err err = {0};
    u64 n = len < 8 ? 0 : lb_load_u64(file);
    if (len < 8 || n > LB_ST_HEADER_MAX || n > len - 8) {
        printf("no length\n");
        return;
    }
    lb_status st =
        lb_st_parse((lb_str){(const char *)file + 8, (size_t)n}, len, &perm, &scratch, &dir, &err);
    if (st != LB_OK)
        printf("no %s\n", err.msg);
    else
        printf("ok");
    for (u64 i = 0; st == LB_OK && i < dir.n_tensors; i++) {
        const lb_tensor *t = &dir.tensors[i];
        printf(" ");
        for (size_t k = 0; k < t->name.len; k++)
            printf("%02x", (u8)t->name.ptr[k]);
        printf(":%s:", lb_dtype_get(t->dtype)->safetensors);
        for (u32 d = 0; d < t->shape.rank; d++)
            printf("%s%llu", d ? "," : "", (unsigned long long)t->shape.dim[d]);
        printf(":%llu:%llu", (unsigned long long)(t->off_bytes - dir.data_off_bytes),
               (unsigned long long)(t->off_bytes - dir.data_off_bytes + t->size_bytes));
    }
    if (st == LB_OK)
        printf("\n");
    lb_arena_deinit(&perm);
    lb_arena_deinit(&scratch);
}

static int verdicts(const char *path) {
    size_t len;
    u8 *bytes = st_slurp(path, &len);
    for (size_t at = 0; at + 8 <= len;) {
        u64 n = lb_load_u64(bytes + at);
        u8 *copy = lb_alloc((size_t)n);
        if (!copy || n > len - at - 8)
            return 1;
        memcpy(copy, bytes + at + 8, (size_t)n);
        verdict(copy, n);
        lb_free(copy);
        at += 8 + (size_t)n;
    }
    lb_free(bytes);
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "--verdicts") == 0)
        return verdicts(argv[2]);
    return lb_test_main(argc, argv, "fast");
}
