/* SPDX-License-Identifier: Apache-2.0 */
/* Files of torch.save: goldens by torch, what is refused and where, archives and pickles by hand,
 * damage. The values of a golden's tensors are 0, 1, 2... */
#include "base/os.h"
#include "format/folder.h"
#include "format/pickle.h"
#include "format/pytorch.h"
#include "format/zip.h"
#include "st_files.h"
#include "test.h"

static lb_err err;

static const char *golden(const char *name) {
    static char path[512];
    char rel[256];
    (void)snprintf(rel, sizeof rel, "pytorch/%s", name);
    (void)snprintf(path, sizeof path, "%s", lb_test_golden(rel));
    return path;
}

/* ---- values ---- */

/* Small whole numbers only. */
static double value(const lb_tensor *t, const u8 *p) {
    u64 v = 0;
    memcpy(&v, p, (size_t)(t->size_bytes / t->n_elems));
    double d;
    switch (t->dtype) {
    case LB_F32:
    case LB_C64:
        return lb_f32_from_bits((u32)v);
    case LB_BF16:
        return lb_f32_from_bits((u32)v << 16);
    case LB_F64:
        memcpy(&d, &v, sizeof d);
        return d;
    case LB_F16:
        return v ? (double)((v & 1023) | 1024) / 1024 * (double)(1u << (v >> 10)) / 32768 : 0;
    case LB_F8_E4M3:
        return v ? (double)((v & 7) | 8) / 8 * (double)(1u << (v >> 3)) / 128 : 0;
    case LB_F8_E5M2:
        return v ? (double)((v & 3) | 4) / 4 * (double)(1u << (v >> 2)) / 32768 : 0;
    default:
        return (double)v;
    }
}

/* Elements first, first + 1... */
static bool ramp(const lb_source *s, const char *name, lb_dtype dtype, const char *shape,
                 double first) {
    const lb_tensor *t = lb_source_tensor(s, lb_str_c(name));
    char text[LB_SHAPE_TEXT];
    int fd = -1;
    u8 bytes[256];
    if (!t || t->dtype != dtype || strcmp(lb_shape_text(&t->shape, text), shape) != 0 ||
        t->size_bytes > sizeof bytes || lb_os_open_read(s->files[t->file].path, &fd, &err) != LB_OK)
        return false;
    lb_status st = lb_os_pread(fd, name, bytes, t->size_bytes, t->off_bytes, &err);
    lb_os_close(&fd);
    for (u64 i = 0; i < t->n_elems && st == LB_OK; i++) {
        double want = dtype == LB_BOOL ? (double)(i % 2) : first + (double)i;
        if (value(t, bytes + i * (t->size_bytes / t->n_elems)) != want)
            return false;
    }
    return st == LB_OK;
}

LB_TEST(every_dtype) {
    static const struct {
        const char *name;
        lb_dtype dtype;
    } want[] = {
        {"float32", LB_F32},
        {"float16", LB_F16},
        {"bfloat16", LB_BF16},
        {"float64", LB_F64},
        {"float8_e4m3fn", LB_F8_E4M3},
        {"float8_e5m2", LB_F8_E5M2},
        {"int64", LB_I64},
        {"int32", LB_I32},
        {"int16", LB_I16},
        {"int8", LB_I8},
        {"uint8", LB_U8},
        {"uint16", LB_U16},
        {"uint32", LB_U32},
        {"uint64", LB_U64},
        {"bool", LB_BOOL},
        {"complex64", LB_C64},
    };
    lb_source *s;
    CHECK_OK(lb_pt_open(&s, golden("dtypes.pt"), &err));
    CHECK(s->format == LB_FORMAT_PYTORCH && s->notes.len == 0);
    CHECK_U64(s->n_tensors, LB_LEN(want));
    CHECK_U64(s->n_weights, LB_LEN(want));
    for (size_t i = 0; i < LB_LEN(want); i++)
        if (!ramp(s, want[i].name, want[i].dtype, "[2, 3]", 0))
            lb_test_fail(__FILE__, __LINE__, "%s", want[i].name);
    lb_source_close(&s);
}

LB_TEST(shapes_and_names) {
    lb_source *s;
    CHECK_OK(lb_pt_open(&s, golden("shapes.pt"), &err));
    CHECK_U64(s->n_tensors, 5);
    CHECK(ramp(s, "scalar", LB_F32, "[]", 1));
    CHECK(ramp(s, "hole", LB_F32, "[2, 0, 3]", 0));
    CHECK(ramp(s, "rank5", LB_F32, "[1, 2, 1, 2, 2]", 0));
    CHECK(ramp(s, "ones", LB_F32, "[1, 1]", 6));
    CHECK(ramp(s, "nam\xc3\xa9 /\"\n", LB_F32, "[3]", 0));
    lb_source_close(&s);
}

/* The same state dict in every form. */
LB_TEST(views_in_every_form) {
    static const char *const files[] = {"views.pt", "proto3.pt", "proto4.pt", "proto5.pt",
                                        "legacy.pt"};
    for (size_t i = 0; i < LB_LEN(files); i++) {
        lb_source *s;
        CHECK_OK(lb_pt_open(&s, golden(files[i]), &err));
        CHECK_U64(s->n_tensors, 11);
        CHECK(ramp(s, "base", LB_F32, "[4, 3]", 0));
        CHECK(ramp(s, "rows", LB_F32, "[2, 3]", 3));
        CHECK(ramp(s, "one_row", LB_F32, "[3]", 6));
        CHECK(ramp(s, "one_column_of_one_row", LB_F32, "[1, 1]", 7));
        CHECK(ramp(s, "reshaped", LB_F32, "[2, 6]", 0));
        CHECK(ramp(s, "tied", LB_F32, "[4, 3]", 0));
        CHECK(ramp(s, "parameter", LB_F32, "[2, 2]", 0));
        CHECK(ramp(s, "with_state", LB_F32, "[2]", 0));
        CHECK(ramp(s, "half", LB_F16, "[3]", 2));
        CHECK(ramp(s, "eight", LB_F8_E4M3, "[3]", 1));
        CHECK(ramp(s, "empty", LB_F32, "[0, 3]", 0));
        const lb_tensor *base = lb_source_tensor(s, LB_STR("base"));
        CHECK(base->off_bytes == lb_source_tensor(s, LB_STR("tied"))->off_bytes);
        CHECK(base->off_bytes + 12 == lb_source_tensor(s, LB_STR("rows"))->off_bytes);
        for (u64 k = 1; k < s->n_tensors; k++)
            CHECK(s->tensors[k - 1].off_bytes <= s->tensors[k].off_bytes);
        lb_source_close(&s);
    }
}

/* Transposed, and columns of a matrix: how they lie is the weight's. */
LB_TEST(views_by_lines) {
    static const struct {
        const char *file, *shape;
        bool turned;
        u64 stride, size_bytes;
    } want[] = {{"strided.pt", "[2, 3]", true, 2, 24}, {"columns.pt", "[3, 2]", false, 4, 40}};
    for (size_t i = 0; i < LB_LEN(want); i++) {
        lb_source *s;
        char shape[LB_SHAPE_TEXT];
        CHECK_OK(lb_pt_open(&s, golden(want[i].file), &err));
        const lb_tensor *t = lb_source_tensor(s, LB_STR("w"));
        const lb_weight *w = lb_source_weight(s, LB_STR("w"));
        u64 stride;
        CHECK(t->lies && t->size_bytes == want[i].size_bytes && t->n_elems == 6);
        CHECK(w->enc.kind == LB_ENC_VIEW && w->enc.turned == want[i].turned);
        CHECK(lb_tensor_stride(t, &stride) && stride == want[i].stride);
        CHECK(strcmp(lb_shape_text(&w->shape, shape), want[i].shape) == 0);
        lb_weight part = {.name = LB_STR("of a quantized one"), .shape = t->shape, .n_parts = 1};
        CHECK(lb_source_add_weight(s, &part, &err) == LB_E_UNSUPPORTED);
        CHECK(strstr(err.msg, "tensor 'w' is a view of another and part of a quantized weight"));
        lb_source_close(&s);
    }
}

LB_TEST(which_dictionary) {
    lb_source *s;
    CHECK_OK(lb_pt_open(&s, golden("nested.pt"), &err));
    CHECK(s->n_tensors == 2 && ramp(s, "w", LB_F32, "[3]", 0) && ramp(s, "b", LB_F32, "[1]", 0));
    CHECK_STR(s->notes, "the tensors are those of the entry 'model', the entries beside it are not "
                        "read");
    lb_source_close(&s);
    CHECK_OK(lb_pt_open(&s, golden("mixed.pt"), &err));
    CHECK(s->n_tensors == 1 && ramp(s, "w", LB_F32, "[3]", 0));
    CHECK_STR(s->notes, "8 entries of the state dict are no tensors and left out: extra, step, lr, "
                        "...");
    lb_source_close(&s);
    CHECK_OK(lb_pt_open(&s, golden("values.pt"), &err));
    CHECK(s->n_tensors == 2 && ramp(s, "w", LB_F32, "[2]", 0) &&
          ramp(s, "buffer", LB_F32, "[3]", 0));
    CHECK_STR(s->notes, "5 entries of the state dict are no tensors and left out: set, none, "
                        "bytes, ...");
    lb_source_close(&s);
    static const char *const modules[] = {"model.pt", "legacy_model.pt"};
    for (size_t i = 0; i < LB_LEN(modules); i++) {
        CHECK_OK(lb_pt_open(&s, golden(modules[i]), &err));
        CHECK(s->n_tensors == 7 && s->notes.len == 0);
        CHECK(ramp(s, "1.num_batches_tracked", LB_I64, "[]", 0));
        lb_source_close(&s);
    }
}

LB_TEST(folder_of_shards) {
    lb_source *s;
    static const char *const names[] = {"pytorch_model-00001-of-00002.bin",
                                        "pytorch_model-00002-of-00002.bin", LB_PT_INDEX_NAME,
                                        "config.json"};
    CHECK_OK(lb_folder_open(&s, golden("sharded"), &err));
    CHECK(s->format == LB_FORMAT_HF && s->n_files == 2 && s->n_weights == 3 && s->n_sides == 1);
    CHECK(s->notes.len == 0);
    CHECK(ramp(s, "a", LB_F32, "[2, 2]", 0) && ramp(s, "b", LB_BF16, "[3]", 0) &&
          ramp(s, "c", LB_F16, "[2]", 0));
    lb_source_close(&s);

    const char *dir = st_dir("sharded");
    for (size_t i = 0; i < LB_LEN(names); i++) {
        char rel[128];
        (void)snprintf(rel, sizeof rel, "sharded/%s", names[i]);
        st_copy(golden(rel), dir, names[i]);
    }
    st_file(dir, "adapter.safetensors", "pt", "x F32 2"); /* not the model's */
    CHECK_OK(lb_folder_open(&s, dir, &err));
    CHECK(s->n_weights == 3);
    CHECK_STR(s->notes, "1 other weight file is not read: adapter.safetensors");
    lb_source_close(&s);
    st_copy(golden("views.pt"), dir, names[1]);
    CHECK(lb_folder_open(&s, dir, &err) == LB_E_FORMAT);
    CHECK(strstr(err.msg, "pytorch_model.bin.index.json does not agree with the shards: 1 tensors "
                          "only in the index, 11 only in the shards"));
    (void)lb_os_unlink(st_path(dir, names[1]), &err);
    CHECK(lb_folder_open(&s, dir, &err) == LB_E_NOT_FOUND);
    CHECK(strstr(err.msg, "1 of them are not here: pytorch_model-00002-of-00002.bin"));
    st_copy(golden("nested.pt"), dir, "pytorch_model.bin");
    CHECK_OK(lb_folder_open(&s, dir, &err));
    CHECK(s->n_weights == 2 && strstr(s->notes.ptr, "pytorch_model.bin goes before the index") &&
          strstr(s->notes.ptr, "those of the entry 'model'"));
    lb_source_close(&s);
    st_file(dir, "model.safetensors", "pt", "x F32 2");
    CHECK_OK(lb_folder_open(&s, dir, &err));
    CHECK(s->n_weights == 1 && strstr(s->notes.ptr, "safetensors go before pytorch_model*.bin"));
    lb_source_close(&s);
}

/* PEFT before safetensors. */
LB_TEST(folder_of_an_adapter) {
    lb_source *s;
    const char *dir = st_dir("adapter");
    st_copy(golden("strided.pt"), dir, "adapter_model.bin");
    CHECK_OK(lb_folder_open(&s, dir, &err));
    CHECK(s->format == LB_FORMAT_HF && s->n_weights == 1 && s->notes.len == 0);
    lb_source_close(&s);
    st_file(dir, "adapter_model.safetensors", "pt", "x F32 2; y F32 1");
    CHECK_OK(lb_folder_open(&s, dir, &err));
    CHECK(s->n_weights == 2);
    lb_source_close(&s);
}

LB_TEST(refused_by_name) {
    static const struct {
        const char *file, *text;
    } list[] = {
        {"expanded.pt", "tensor 'w' of shape [3, 4] is a view with strides [1, 0]"},
        {"refused_sparse.pt", "byte 77: GLOBAL 'torch._utils._rebuild_sparse_tensor' is refused"},
        {"refused_quantized.pt", "GLOBAL 'torch._utils._rebuild_qtensor' is refused"},
        {"refused_conjugated.pt", "REDUCE of a tensor with hooks or metadata is refused"},
        {"refused_numpy.pt", "GLOBAL 'numpy._core.multiarray._reconstruct' is refused"},
        {"refused_module.pt", "GLOBAL 'torch.nn.modules.linear.Linear' is refused"},
        {"refused_tensor.pt", "holds a tensor, not a dictionary of tensors"},
        {"refused_big.pt", "big-endian machine (byteorder)"},
        {"refused_script.pt", "TorchScript archive (constants.pkl)"},
    };
    for (size_t i = 0; i < LB_LEN(list); i++) {
        lb_source *s;
        lb_status st = lb_pt_open(&s, golden(list[i].file), &err);
        if (st != LB_E_UNSUPPORTED || !strstr(err.msg, list[i].text) ||
            !strstr(err.msg, list[i].file))
            lb_test_fail(__FILE__, __LINE__, "%s: %s", list[i].file, err.msg);
        CHECK(s == NULL);
    }
}

/* ---- pickles by hand ---- */

/* Names are numbers 0, 1...; calling 'l.i' gives a list, 'o.d' a dictionary with attributes. */
static bool any_name(void *ctx, lb_str module, lb_str name, u32 *id) {
    (void)ctx;
    *id = lb_str_eq_c(name, "d");
    return lb_str_eq_c(module, "ok") && (*id || lb_str_eq_c(name, "l"));
}

static lb_status any_call(void *ctx, lb_pickle *p, u32 id, const lb_pv *args, lb_pv **out) {
    (void)ctx;
    *out = lb_pickle_new(p, id ? LB_PV_DICT : LB_PV_LIST);
    if (!*out)
        return lb_pickle_no_memory(p);
    (*out)->is_ordered = id;
    return args->n ? lb_pickle_fail(p, LB_E_UNSUPPORTED, "with arguments") : LB_OK;
}

static lb_status any_id(void *ctx, lb_pickle *p, const lb_pv *id, lb_pv **out) {
    (void)ctx;
    (void)p;
    *out = (lb_pv *)(uintptr_t)id;
    return LB_OK;
}

static const lb_pickle_ops any_ops = {NULL, any_name, any_call, any_id};

static lb_status run(const void *text, size_t n, lb_arena *a, lb_pv **out) {
    lb_cur c;
    lb_cur_mem(&c, "p.pkl", text, n);
    err.msg[0] = 0;
    return lb_pickle_run(&c, &any_ops, a, out, &err);
}

#define RUN(text) run("\x80\x04" text, sizeof(text) + 1, &a, &v)

LB_TEST(pickle_values) {
    lb_arena a = {0};
    lb_pv *v;
    CHECK_OK(RUN("N."));
    CHECK(v->kind == LB_PV_NONE);
    CHECK_OK(RUN("J\xfe\xff\xff\xff."));
    CHECK(v->kind == LB_PV_INT && v->u.i == -2);
    CHECK_OK(RUN("M\x01\x02."));
    CHECK(v->u.i == 0x201);
    CHECK_OK(RUN("\x8a\x02\x00\x80."));
    CHECK(v->u.i == -32768);
    CHECK_OK(RUN("\x8a\x00."));
    CHECK(v->kind == LB_PV_INT && v->u.i == 0);
    CHECK_OK(RUN("\x8b\x09\x00\x00\x00"
                 "123456789."));
    CHECK(v->kind == LB_PV_BIG && v->n == 9);
    CHECK_OK(RUN("G\x3f\xf8\x00\x00\x00\x00\x00\x00."));
    CHECK(v->kind == LB_PV_FLOAT && v->u.f == 1.5);
    CHECK_OK(RUN("X\x02\x00\x00\x00"
                 "ab."));
    CHECK_STR(lb_pv_str(v), "ab");
    CHECK_OK(RUN("]\x94(K\x01K\x02"
                 "eh\x00"
                 "a.")); /* a list that holds itself */
    CHECK(v->kind == LB_PV_LIST && v->n == 3 && v->u.items[2] == v && v->u.items[1]->u.i == 2);
    CHECK_OK(RUN("}\x8c\x01kK\x01s(\x8c\x01lK\x02u."));
    CHECK(v->kind == LB_PV_DICT && v->n == 4 && v->u.items[3]->u.i == 2);
    CHECK_OK(RUN("K\x01K\x02K\x03\x87."));
    CHECK(v->kind == LB_PV_TUPLE && v->n == 3 && v->u.items[0]->u.i == 1);
    CHECK_OK(RUN("(K\x01(1t."));
    CHECK(v->n == 1);
    CHECK_OK(RUN("(0N20."));
    CHECK_OK(RUN("cok\nd\n)R}b."));
    CHECK(v->kind == LB_PV_DICT && v->is_ordered);
    CHECK_OK(RUN("\x8c\x02ok\x8c\x01l\x93)R."));
    CHECK(v->kind == LB_PV_LIST);
    CHECK_OK(RUN("\x8f(K\x01K\x02\x90."));
    CHECK(v->kind == LB_PV_LIST && v->n == 2 && v->u.items[1]->u.i == 2);
    CHECK_OK(RUN("(K\x03\x91."));
    CHECK(v->kind == LB_PV_LIST && v->n == 1 && v->u.items[0]->u.i == 3);
    CHECK_OK(RUN("\x96\x01\x00\x00\x00\x00\x00\x00\x00z."));
    CHECK(v->kind == LB_PV_BYTES && v->n == 1);
    CHECK_OK(RUN("\x95\x02\x00\x00\x00\x00\x00\x00\x00K\x07."));
    CHECK(v->u.i == 7);
    lb_arena_deinit(&a);
}

LB_TEST(pickle_refusals) {
    static const struct {
        const char *text;
        size_t len;
        lb_status status;
        const char *want;
    } list[] = {
#define P(text, status, want) {"\x80\x02" text, sizeof(text) + 1, LB_E_##status, want}
        P("cos\nsystem\n.", UNSUPPORTED, "byte 2: GLOBAL 'os.system' is refused"),
        P("\x8c\x02os\x8c\x06system\x93.", UNSUPPORTED, "byte 14: STACK_GLOBAL 'os.system'"),
        P("cos\nsys\033tem\n.", UNSUPPORTED, "'os.sys?tem'"),
        P("(ios\nsystem\n.", UNSUPPORTED, "byte 3: INST is refused"),
        P("(No.", UNSUPPORTED, "byte 4: OBJ is refused"),
        P("\x82\x01.", UNSUPPORTED, "byte 2: EXT1 is refused"),
        P("\x83\x01\x01.", UNSUPPORTED, "EXT2 is refused"),
        P("\x84\x01\x01\x01\x01.", UNSUPPORTED, "EXT4 is refused"),
        P("N)\x81.", UNSUPPORTED, "byte 4: NEWOBJ is refused"),
        P("N)}\x92.", UNSUPPORTED, "NEWOBJ_EX is refused"),
        P("}(N\x90.", UNSUPPORTED, "ADDITEMS into a dictionary is refused"),
        P("\x91.", FORMAT, "FROZENSET finds no mark"),
        P("I1\n.", UNSUPPORTED, "INT is refused"),
        P("Pid\n.", UNSUPPORTED, "PERSID is refused"),
        P("\x97.", UNSUPPORTED, "NEXT_BUFFER is refused"),
        P("N)R.", UNSUPPORTED, "REDUCE of None with a tuple is refused"),
        P("cok\nl\nNR.", UNSUPPORTED, "REDUCE of a name with None is refused"),
        P("]}b.", UNSUPPORTED, "byte 4: BUILD of a list from a dictionary is refused"),
        P("}}b.", UNSUPPORTED, "BUILD of a dictionary from a dictionary is refused"),
        P("NNa.", UNSUPPORTED, "APPEND into None is refused"),
        P("]NNs.", UNSUPPORTED, "SETITEM into a list is refused"),
        P("\xff.", FORMAT, "byte 2: 0xff is no opcode"),
        P("\x80\x02N.", FORMAT, "PROTO stands inside"),
        P("", FORMAT, "byte 2: needs 1 bytes, 0 are left"),
        P(".", FORMAT, "STOP does not find one value"),
        P("NN.", FORMAT, "STOP does not find one value"),
        P("(N.", FORMAT, "STOP does not find one value"),
        P("t.", FORMAT, "TUPLE finds no mark"),
        P("N\x86.", FORMAT, "TUPLE2 finds too few values"),
        P("N(\x85.", FORMAT, "TUPLE1 finds too few values"),
        P("N(2.", FORMAT, "DUP finds too few values"),
        P("0.", FORMAT, "POP finds too few values"),
        P("}(Nu.", FORMAT, "SETITEMS finds a key without a value"),
        P("h\x00.", FORMAT, "BINGET 0: nothing was kept there"),
        P("Nj\xff\xff\xff\xff.", FORMAT, "LONG_BINGET 4294967295: nothing was kept there"),
        P("Nr\xff\xff\xff\xff.", FORMAT, "LONG_BINPUT 4294967295: an index beyond"),
        P("Nq\xc8.", FORMAT, "BINPUT 200: an index beyond"),
        P("X\xff\xff\xff\xff"
          "a.",
          FORMAT, "BINUNICODE needs 4294967295 bytes, 2 are left"),
        P("\x8d\xff\xff\xff\xff\xff\xff\xff\xff.", FORMAT,
          "BINUNICODE8 needs 18446744073709551615"),
        P("\x8b\xff\xff\xff\xff.", FORMAT, "LONG4 needs 4294967295 bytes"),
        P("\x95\xff\xff\xff\xff\xff\xff\xff\x7fN.", FORMAT, "FRAME needs 9223372036854775807"),
        P("NN\x93.", FORMAT, "STACK_GLOBAL finds no two strings"),
        P("cos", FORMAT, "GLOBAL needs 1 bytes"),
#undef P
        {"\x80\x01N.", 4, LB_E_UNSUPPORTED, "byte 0: PROTO 1: protocols 2 to 5"},
        {"\x80\x06N.", 4, LB_E_UNSUPPORTED, "PROTO 6: protocols 2 to 5"},
        {"N.", 2, LB_E_UNSUPPORTED, "byte 0: NONE comes first: protocols 2 to 5"},
        {"(lp0\n.", 6, LB_E_UNSUPPORTED, "MARK comes first"},
    };
    for (size_t i = 0; i < LB_LEN(list); i++) {
        lb_arena a = {0};
        lb_pv *v;
        lb_status st = run(list[i].text, list[i].len, &a, &v);
        if (st != list[i].status || !strstr(err.msg, list[i].want) || !strstr(err.msg, "p.pkl"))
            lb_test_fail(__FILE__, __LINE__, "%zu: %s: %s", i, list[i].want, err.msg);
        lb_arena_deinit(&a);
    }
}

/* Texts that would grow if each byte were believed: all within the factor, in no time. */
LB_TEST(pickle_bombs) {
    static const char *const units[] = {"]",     "(",  "\x85",  "2",      "\x86\x32",
                                        "]\x94", "(t", "]2a",   ")2\x86", "K\x01\x94",
                                        "(2e",   "}",  "2\x94", "]NNa2a"};
    u64 begin = lb_test_cpu_us();
    for (size_t i = 0; i < LB_LEN(units); i++) {
        lb_arena a = {0};
        lb_buf b = {0};
        lb_pv *v;
        lb_buf_put(&b, "\x80\x04]]", 4);
        while (b.len < lb_test_cases(1000000))
            lb_buf_put_c(&b, units[i]);
        lb_mem_peak_reset();
        u64 before = lb_mem_used();
        lb_status st = run(b.ptr, b.len, &a, &v);
        if (st == LB_OK || lb_mem_peak() - before > LB_PICKLE_FACTOR * (u64)b.len)
            lb_test_fail(__FILE__, __LINE__, "unit %zu: %llu bytes: %s", i,
                         (unsigned long long)(lb_mem_peak() - before), err.msg);
        lb_arena_deinit(&a);
        lb_buf_deinit(&b);
    }
    CHECK(!lb_test_timed() || lb_test_cpu_us() - begin < 3000000);
}

/* ---- archives and files by hand ---- */

typedef struct item {
    const char *name, *data;
    u16 flags, method;
} item;

static void put_u16(lb_buf *b, u64 v) {
    lb_buf_put_u8(b, (u8)v);
    lb_buf_put_u8(b, (u8)(v >> 8));
}

static void head(lb_buf *b, const item *it, bool central, u64 off) {
    size_t n = strlen(it->data);
    lb_buf_put_u32(b, central ? 0x02014b50 : 0x04034b50);
    if (central)
        put_u16(b, 0);
    put_u16(b, 0);
    put_u16(b, it->flags);
    put_u16(b, it->method);
    lb_buf_put_zeros(b, 8); /* time, date, sum */
    lb_buf_put_u32(b, (u32)n);
    lb_buf_put_u32(b, (u32)n);
    put_u16(b, strlen(it->name));
    put_u16(b, 0);
    if (central) {
        lb_buf_put_zeros(b, 10);
        lb_buf_put_u32(b, (u32)off);
    }
    lb_buf_put_c(b, it->name);
}

static void archive(lb_buf *b, const item *items, u32 n) {
    u64 off[8];
    lb_buf_reset(b);
    for (u32 i = 0; i < n; i++) {
        off[i] = b->len;
        head(b, &items[i], false, 0);
        lb_buf_put_c(b, items[i].data);
    }
    u64 dir = b->len;
    for (u32 i = 0; i < n; i++)
        head(b, &items[i], true, off[i]);
    u64 end = b->len;
    lb_buf_put_u32(b, 0x06054b50);
    lb_buf_put_u32(b, 0);
    put_u16(b, n);
    put_u16(b, n);
    lb_buf_put_u32(b, (u32)(end - dir));
    lb_buf_put_u32(b, (u32)dir);
    put_u16(b, 0);
}

static lb_status parse_bytes(const void *bytes, size_t n, u64 *n_tensors, u64 *n_memory) {
    lb_arena perm = {0}, scratch = {0};
    lb_pt_dir dir;
    lb_cur c;
    lb_cur_mem(&c, "x.pt", bytes, n);
    err.msg[0] = 0;
    lb_status st = lb_pt_parse(&c, &perm, &scratch, &dir, &err);
    *n_tensors = dir.n_tensors;
    for (u64 i = 0; st == LB_OK && i < dir.n_tensors; i++) {
        const lb_tensor *t = &dir.tensors[i];
        u64 elems, bytes_of;
        if (t->off_bytes > n || t->size_bytes > n - t->off_bytes ||
            !lb_shape_elems(&t->shape, &elems) || elems != t->n_elems ||
            !lb_dtype_bytes(t->dtype, elems, &bytes_of) ||
            (t->lies ? bytes_of > t->size_bytes : bytes_of != t->size_bytes))
            lb_test_fail(__FILE__, __LINE__, "tensor %llu", (unsigned long long)i);
    }
    if (n_memory)
        *n_memory = perm.size_bytes + scratch.size_bytes;
    lb_arena_deinit(&perm);
    lb_arena_deinit(&scratch);
    return st;
}

LB_TEST(archives_by_hand) {
    static const struct {
        item items[3];
        u32 n;
        lb_status status;
        const char *want;
    } list[] = {
        {{{"a/data.pkl", "", 0, 8}}, 1, LB_E_UNSUPPORTED, "'a/data.pkl' at byte 40 is compressed"},
        {{{"a/data.pkl", "", 1, 0}}, 1, LB_E_UNSUPPORTED, "is encrypted"},
        {{{"../data.pkl", "", 0, 0}}, 1, LB_E_FORMAT, "'../data.pkl' at byte 41: not a plain"},
        {{{"/data.pkl", "", 0, 0}}, 1, LB_E_FORMAT, "not a plain relative name"},
        {{{"a\\data.pkl", "", 0, 0}}, 1, LB_E_FORMAT, "not a plain relative name"},
        {{{"C:/data.pkl", "", 0, 0}}, 1, LB_E_FORMAT, "not a plain relative name"},
        {{{"a/../data.pkl", "", 0, 0}}, 1, LB_E_FORMAT, "not a plain relative name"},
        {{{"", "", 0, 0}}, 1, LB_E_FORMAT, "not a plain relative name"},
        {{{"a/data.pkl", "", 0, 0}, {"a/data.pkl", "", 0, 0}}, 2, LB_E_FORMAT, "stands twice"},
        {{{"a/data.pkl", "", 0, 0}, {"b/data.pkl", "", 0, 0}}, 2, LB_E_FORMAT, "a second data.pkl"},
        {{{"data.pkl", "", 0, 0}}, 1, LB_E_UNSUPPORTED, "without NAME/data.pkl"},
        {{{"a/b/data.pkl", "", 0, 0}}, 1, LB_E_UNSUPPORTED, "without NAME/data.pkl"},
        {{{"x.npy", "", 0, 0}}, 1, LB_E_UNSUPPORTED, "not a file of torch.save"},
        {{{"a/data.pkl", "", 0, 0}}, 1, LB_E_FORMAT, "needs 1 bytes, 0 are left"},
        {{{"a/data.pkl", "\x80\x02N.", 0, 0}}, 1, LB_E_UNSUPPORTED, "holds None, not a dictionary"},
        {{{"a/data.pkl", "\x80\x02}.", 0, 0}}, 1, LB_E_UNSUPPORTED, "no dictionary of tensors"},
        {{{"a/data.pkl", "\x80\x02N.N", 0, 0}}, 1, LB_E_FORMAT, "goes on behind its pickle"},
        {{{"a/data.pkl", "\x80\x02}.", 0, 0}, {"a/byteorder", "middle", 0, 0}},
         2,
         LB_E_FORMAT,
         "byteorder is neither"},
    };
    lb_buf b = {0};
    u64 n;
    for (size_t i = 0; i < LB_LEN(list); i++) {
        archive(&b, list[i].items, list[i].n);
        lb_status st = parse_bytes(b.ptr, b.len, &n, NULL);
        if (st != list[i].status || !strstr(err.msg, list[i].want) || !strstr(err.msg, "x.pt"))
            lb_test_fail(__FILE__, __LINE__, "%zu: %s: %s", i, list[i].want, err.msg);
    }
    lb_buf_deinit(&b);
}

/* What the two headers of an entry and the end records say must fit together. */
LB_TEST(archive_directories) {
    static const item items[] = {{"a/data.pkl", "\x80\x02}.", 0, 0},
                                 {"a/data/0", "12345678", 0, 0}};
    static const struct {
        i32 at; /* from the end where negative */
        u8 value;
        const char *want;
    } list[] = {
        {0, 'Q', "magic"},                            /* no archive: a pickle of protocol 'K' */
        {30, 'b', "another name"},                    /* local name */
        {22, 9, "another size"},                      /* local size */
        {8, 8, "compressed"},                         /* local method */
        {26, 200, "file ends inside a name"},         /* local name length */
        {28, 200, "file ends inside an extra field"}, /* local extra length */
        {-2, 1, "without the directory at its end"},
        {-6, 1, "does not end where its end record begins"},
        {-10, 1, "does not end where its end record begins"},
        {-12, 200, "several disks"},
        {-18, 1, "several disks"},
    };
    lb_buf b = {0};
    u64 n;
    for (size_t i = 0; i < LB_LEN(list); i++) {
        archive(&b, items, 2);
        b.ptr[list[i].at < 0 ? b.len - (size_t)-list[i].at : (size_t)list[i].at] = list[i].value;
        lb_status st = parse_bytes(b.ptr, b.len, &n, NULL);
        bool ok = (st == LB_E_FORMAT || st == LB_E_UNSUPPORTED) && err.msg[0];
        if (!ok || (i && !strstr(err.msg, list[i].want)))
            lb_test_fail(__FILE__, __LINE__, "%zu: %s: %s", i, list[i].want, err.msg);
    }
    /* the second entry in the first one's bytes */
    archive(&b, items, 2);
    size_t dir = b.len - 22 - (46 + 10) - (46 + 8);
    b.ptr[dir + 56 + 42] = 0;
    CHECK(parse_bytes(b.ptr, b.len, &n, NULL) == LB_E_FORMAT && strstr(err.msg, "another name"));
    lb_buf_deinit(&b);
}

#define HEADER                  \
    "\x80\x02\x8a\x0al\xfc\x9c" \
    "F\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}X\x0d\x00\x00\x00little_endian\x88s."
#define STORAGE(n)                                                     \
    "(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x00" \
    "0X\x03\x00\x00\x00"                                               \
    "cpuK" n "NtQ"
#define REBUILD "ctorch._utils\n_rebuild_tensor_v2\n("

/* {"w": a tensor of offset, size, stride} over a storage of 4 floats, in the legacy form. */
#define W(offset, size, stride)                                              \
    "\x80\x02}X\x01\x00\x00\x00w" REBUILD STORAGE("\x04") offset size stride \
        "\x89}tRs.\x80\x02"                                                  \
        "]X\x01\x00\x00\x00"                                                 \
        "0a.\x04\x00\x00\x00\x00\x00\x00\x00"                                \
        "0123456789abcdef"

LB_TEST(tensors_by_hand) {
    static const struct {
        const char *text;
        size_t len;
        lb_status status;
        const char *want;
    } list[] = {
#define T(text, status, want) {HEADER text, sizeof(HEADER text) - 1, LB_##status, want}
        T(W("K\x00", "K\x04\x85", "K\x01\x85"), OK, ""),
        T(W("K\x01", "K\x03\x85", "K\x01\x85"), OK, ""),
        T(W("K\x00", "K\x02K\x02\x86", "K\x02K\x01\x86"), OK, ""),
        T(W("K\x04", "K\x00\x85", "K\x01\x85"), OK, ""),
        T(W("K\x03", ")", ")"), OK, ""),
        T(W("K\x04", ")", ")"), E_FORMAT, "does not lie in its storage '0'"),
        T(W("K\x01", "K\x04\x85", "K\x01\x85"), E_FORMAT, "does not lie in its storage"),
        T(W("K\x05", "K\x00\x85", "K\x01\x85"), E_FORMAT, "does not lie in its storage"),
        T(W("K\x00", "J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86", "J\xff\xff\xff\x7fK\x01\x86"),
          E_FORMAT, "does not lie in its storage"),
        T(W("\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f", "K\x01\x85", "K\x01\x85"), E_FORMAT,
          "does not lie in its storage"),
        T(W("K\x00", "K\x02K\x02\x86", "K\x01K\x02\x86"), OK, ""),
        T(W("K\x01", "K\x02K\x02\x86", "K\x01K\x02\x86"), E_FORMAT,
          "shape [2, 2] from element 1 does not lie in its storage"),
        T(W("K\x00", "K\x02K\x02\x86", "K\x03K\x01\x86"), E_FORMAT, "does not lie in its storage"),
        T(W("K\x00", "K\x02K\x02\x86", "K\x01K\x01\x86"), E_UNSUPPORTED, "strides [1, 1]"),
        T(W("K\x00", "K\x02K\x02\x86", "K\x02K\x02\x86"), E_UNSUPPORTED, "strides [2, 2]"),
        T(W("K\x00", "K\x02\x85", "K\x02\x85"), E_UNSUPPORTED, "strides [2]"),
        T(W("K\x00", "K\x02K\x02\x86",
            "J\xff\xff\xff\x7f\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x86"),
          E_UNSUPPORTED, "is a view with strides"),
        T(W("K\x00", "K\x02K\x02\x86", "K\x01\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x86"),
          E_UNSUPPORTED, "is a view with strides"),
        T(W("J\xff\xff\xff\xff", "K\x01\x85", "K\x01\x85"), E_FORMAT, "REDUCE of a tensor whose"),
        T(W("K\x00", "J\xff\xff\xff\xff\x85", "K\x01\x85"), E_FORMAT, "REDUCE of a tensor whose"),
        T(W("K\x00", "K\x01\x85", ")"), E_FORMAT, "REDUCE of a tensor whose"),
        T(W("K\x00", "(K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01t",
            "(K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01t"),
          E_UNSUPPORTED, "9 dimensions"),
        T(W("K\x00", "K\x04\x85", "K\x01\x85") "x", E_FORMAT, "bytes behind the last storage"),
        T("\x80\x02}.\x80\x02].", E_UNSUPPORTED, "no dictionary of tensors"),
        T("\x80\x02}q\x00X\x05\x00\x00\x00modelh\x00s.\x80\x02].", E_UNSUPPORTED,
          "no dictionary of tensors"),
        T("\x80\x02" STORAGE("\x04") ".\x80\x02].", E_FORMAT, "storage '0' is missing"),
        T("\x80\x02(X\x06\x00\x00\x00moduletQ.", E_UNSUPPORTED, "BINPERSID of a 'module'"),
        T("\x80\x02NQ.", E_UNSUPPORTED, "BINPERSID of what is no"),
        T("\x80\x02" STORAGE("\x04") "0" STORAGE("\x05") ".", E_FORMAT, "another type or size"),
        T("\x80\x02"
          "ctorch\nFloatStorage\n)R.",
          E_UNSUPPORTED, "'torch.FloatStorage' is refused"),
        T("\x80\x02"
          "ccollections\nOrderedDict\n]\x85R.",
          E_UNSUPPORTED, "with arguments"),
        T("\x80\x02}K\x01" REBUILD STORAGE("\x00") "K\x00))\x89}tRs.\x80\x02]X\x01\x00\x00\x00"
                                                   "0a.\x00\x00\x00\x00\x00\x00\x00\x00",
          E_UNSUPPORTED, "key of an entry is an integer"),
        T("\x80\x02N.\x80\x02]X\x01\x00\x00\x00"
          "0a.",
          E_FORMAT, "a storage that no tensor has"),
        T("\x80\x02N.\x80\x02N.", E_FORMAT, "no list of storages"),
#undef T
        {"\x80\x02}.", 4, LB_E_UNSUPPORTED, "not of torch.save (no magic number)"},
        {"\x80\x02\x8a\x0al\xfc\x9c"
         "F\xf9 j\xa8P\x19.\x80\x02K\x01.",
         21, LB_E_UNSUPPORTED, "unknown version"},
    };
    for (size_t i = 0; i < LB_LEN(list); i++) {
        u64 n;
        lb_status st = parse_bytes(list[i].text, list[i].len, &n, NULL);
        if (st != list[i].status || !strstr(err.msg, list[i].want) || (st == LB_OK && n != 1))
            lb_test_fail(__FILE__, __LINE__, "%zu: %s: %s", i, list[i].want, err.msg);
    }
}

/* ---- damage ---- */

LB_TEST(every_prefix_is_an_error) {
    static const char *const files[] = {"views.pt", "model.pt", "proto5.pt", "legacy.pt",
                                        "legacy_model.pt"};
    for (size_t f = 0; f < LB_LEN(files); f++) {
        size_t len;
        u64 n_tensors;
        u8 *bytes = st_slurp(golden(files[f]), &len);
        CHECK(parse_bytes(bytes, len, &n_tensors, NULL) == LB_OK);
        for (size_t n = 0; n < len; n++) {
            lb_status st = parse_bytes(bytes, n, &n_tensors, NULL);
            if (st != LB_E_FORMAT || !strstr(err.msg, "x.pt"))
                lb_test_fail(__FILE__, __LINE__, "%s cut at %zu: %s", files[f], n, err.msg);
        }
        lb_free(bytes);
    }
}

LB_TEST(every_flipped_bit) {
    static const char *const files[] = {"views.pt", "legacy.pt", "proto4.pt", "nested.pt"};
    for (size_t f = 0; f < LB_LEN(files); f++) {
        size_t len;
        u64 n_tensors, n_memory;
        u8 *bytes = st_slurp(golden(files[f]), &len);
        for (u64 bit = f; bit < (u64)len * 8; bit += lb_test_stride(7)) {
            bytes[bit / 8] ^= (u8)(1u << (bit % 8));
            lb_status st = parse_bytes(bytes, len, &n_tensors, &n_memory);
            if ((st != LB_OK && (lb_status_exit(st) != 3 || !err.msg[0])) ||
                n_memory > 64 * LB_KIB + 256 * (u64)len)
                lb_test_fail(__FILE__, __LINE__, "%s bit %llu: %s", files[f],
                             (unsigned long long)bit, err.msg);
            bytes[bit / 8] ^= (u8)(1u << (bit % 8));
        }
        lb_free(bytes);
    }
}

LB_TEST(out_of_memory) {
    size_t len;
    u64 n_tensors;
    u8 *bytes = st_slurp(golden("views.pt"), &len);
    u64 before = lb_mem_count();
    CHECK(parse_bytes(bytes, len, &n_tensors, NULL) == LB_OK);
    u64 n = lb_mem_count() - before;
    for (u64 i = 1; i <= n; i++) {
        lb_mem_fail_at(i);
        lb_status st = parse_bytes(bytes, len, &n_tensors, NULL);
        lb_mem_fail_at(0);
        if (st != LB_E_NOMEM)
            lb_test_fail(__FILE__, __LINE__, "%llu of %llu: %s", (unsigned long long)i,
                         (unsigned long long)n, err.msg);
    }
    lb_free(bytes);
}

LB_TEST_MAIN("fast")
