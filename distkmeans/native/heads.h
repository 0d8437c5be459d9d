/* Integer heads of values: what Cut.heads of kernels/head.py does, in one pass over the values. */

/* Columns of axes, and values, that are multiplied together. */
enum { V(STRIPE) = 16, V(TOGETHER) = sizeof(V(vec)) == 64 ? MOST_TOGETHER : 4 };
typedef double V(eight) __attribute__((vector_size(64)));
typedef double V(eight_f64) __attribute__((vector_size(64)));
typedef float V(eight_f32) __attribute__((vector_size(32)));
#define LESS(real, convert, stored) \
    for (int d = 0; d < v->dims; d++) x[d] = (real)convert(((const stored *)from)[d]) - centre[d]
#define TURN(name, real, vector, MULTIPLY_ADD, SPREAD)                                                            \
    static void V(turn_##name)(const Cutting *c, const real *x, real *turned) {                                   \
        enum { MANY = V(TOGETHER), LANE = sizeof(vector) / sizeof(real), VECS = V(STRIPE) / LANE };               \
        const int dims = c->values.dims;                                                                          \
        for (int at = 0; at < c->lanes; at += V(STRIPE)) {                                                        \
            const real *axes = (const real *)c->axes + (size_t)at * dims;                                         \
            vector sum[MANY][VECS] = {{{0}}};                                                                     \
            for (int d = 0; d < dims; d++) {                                                                      \
                _Pragma("GCC unroll 8") for (int v = 0; v < VECS; v++) {                                          \
                    vector axis;                                                                                  \
                    memcpy(&axis, axes + (size_t)d * V(STRIPE) + LANE * v, sizeof axis);                          \
                    _Pragma("GCC unroll 8") for (int r = 0; r < MANY; r++)                                        \
                        sum[r][v] = MULTIPLY_ADD(axis, SPREAD(x[(size_t)r * dims + d]), sum[r][v]);               \
                }                                                                                                 \
            }                                                                                                     \
            _Pragma("GCC unroll 8") for (int r = 0; r < MANY; r++)                                                \
                _Pragma("GCC unroll 8") for (int v = 0; v < VECS; v++) {                                          \
                    const vector total = sum[r][v];                                                               \
                    memcpy(turned + (size_t)r * c->lanes + at + LANE * v, &total, sizeof total);                  \
                }                                                                                                 \
        }                                                                                                         \
    }                                                                                                             \
    /* A value less the centre. */                                                                                \
    static void V(less_##name)(const Rows *v, int64_t i, const real *centre, real *x) {                           \
        const char *from = (const char *)v->data + i * v->stride * row_bytes(v->type);                            \
        switch (v->type) {                                                                                        \
        case F16: LESS(real, half_to_float, uint16_t); break;                                                     \
        case BF16: LESS(real, bfloat_to_float, uint16_t); break;                                                  \
        case U8: LESS(real, (real), uint8_t); break;                                                              \
        case I8: LESS(real, (real), int8_t); break;                                                               \
        default: LESS(real, (real), float);                                                                       \
        }                                                                                                         \
    }                                                                                                             \
    /* The same, and its |X|^2. */                                                                                \
    static double V(centred_##name)(const Cutting *c, int64_t i, real *x) {                                       \
        const Rows *v = &c->values;                                                                               \
        V(less_##name)(v, i, c->centre, x);                                                                       \
        V(eight) lanes = {0};                                                                                     \
        int d = 0;                                                                                                \
        for (; d + 8 <= v->dims; d += 8) {                                                                        \
            V(eight_##name) raw;                                                                                  \
            memcpy(&raw, x + d, sizeof raw);                                                                      \
            const V(eight) value = __builtin_convertvector(raw, V(eight));                                        \
            lanes += value * value;                                                                               \
        }                                                                                                         \
        double sum = 0;                                                                                           \
        for (; d < v->dims; d++) lanes[0] += (double)x[d] * (double)x[d];                                         \
        for (int l = 0; l < 8; l++) sum += lanes[l];                                                              \
        return sum;                                                                                               \
    }
TURN(f64, double, V(vec_f64), MUL_ADD_F64, SET1_F64)
TURN(f32, float, V(vec), MUL_ADD, SET1)
#undef TURN
#undef LESS

static inline double V(clamped)(double value, double cap) { return value < -cap ? -cap : value > cap ? cap : value; }

/* Coordinates from..to of one value, unrefined: rounded into the head of 16 bits, their sums of squares added up: of the
   scaled ones, of what is rounded off, and of the integers. To add and take away 1.5 * 2**52 is to round to the nearest
   integer. */
typedef int64_t V(eight_bits) __attribute__((vector_size(64)));
typedef int32_t V(eight_ints) __attribute__((vector_size(32)));
typedef int16_t V(eight_shorts) __attribute__((vector_size(16)));
#define WHERE(condition, yes, no) \
    ((V(eight))(((condition) & (V(eight_bits))(yes)) | (~(condition) & (V(eight_bits))(no))))
static void V(round_16)(const double *y, int from, int to, double scale, double cap, int16_t *head, double *sums) {
    const V(eight) most = cap - (V(eight)){0}, integer = 0x1.8p52 - (V(eight)){0};
    V(eight) inside = {0}, rest = {0}, size = {0};
    for (int d = from; d < to; d += 8) {
        const size_t many = d + 8 <= to ? 8 : (size_t)(to - d);
        V(eight) value = {0};
        if (many == 8) memcpy(&value, y + d, sizeof value);
        else memcpy(&value, y + d, many * sizeof(double));
        value *= scale;
        V(eight) near = WHERE(value > most, most, value);
        near = WHERE(near < -most, -most, near) + integer - integer;
        const V(eight) off = value - near;
        inside += value * value, rest += off * off, size += near * near;
        const V(eight_shorts) whole =
            __builtin_convertvector(__builtin_convertvector(near, V(eight_ints)), V(eight_shorts));
        if (many == 8) memcpy(head + d, &whole, sizeof whole);
        else memcpy(head + d, &whole, many * sizeof(int16_t));
    }
    for (int l = 0; l < 8; l++) sums[0] += inside[l], sums[1] += rest[l], sums[2] += size[l];
}
#undef WHERE

/* The same in bytes, without the first of the sums. float32 in 16 lanes: a scaled coordinate errs by 2 units, sums of up
   to 2**12 squares by 2**-16 of themselves, those of the integers not at all. */
static void V(round_8)(const float *y, int length, float scale, int8_t *head, double *sums) {
    enum { SIDE = 16 / LANES };
    typedef int32_t V(ints) __attribute__((vector_size(4 * LANES)));
    typedef int8_t V(bytes) __attribute__((vector_size(LANES)));
    const V(vec) by = SET1(scale), most = SET1(127.0f), least = SET1(-127.0f), integer = SET1(0x1.8p23f);
    V(vec) rest[SIDE], size[SIDE];
    for (int j = 0; j < SIDE; j++) rest[j] = size[j] = ZERO();
    for (int d = 0; d < length; d += 16)
        for (int j = 0, at = d; j < SIDE && at < length; j++, at += LANES) {
            const size_t many = at + LANES <= length ? LANES : (size_t)(length - at);
            V(vec) value = ZERO();
            if (many == LANES) value = LOAD(y + at);
            else memcpy(&value, y + at, many * sizeof(float));
            value *= by;
            const V(vec) near = MAX(MIN(value, most), least) + integer - integer, off = value - near;
            rest[j] += off * off, size[j] += near * near;
            const V(bytes) whole = __builtin_convertvector(__builtin_convertvector(near, V(ints)), V(bytes));
            if (many == LANES) memcpy(head + at, &whole, sizeof whole);
            else memcpy(head + at, &whole, many);
        }
    float lane[2][16];
    memcpy(lane[0], rest, sizeof rest), memcpy(lane[1], size, sizeof size);
    for (int l = 0; l < 16; l++) sums[1] += (double)lane[0][l], sums[2] += (double)lane[1][l];
}

/* One value's head, from its coordinates: double for 16 bits, float for 8. */
static void V(cut)(const Cutting *c, const Stage *s, int64_t i, const void *y, double square) {
    const double cap = s->bits == 8 ? 127 : 32767, up = 1 + 0x1p-16, unit = 0x1p-24;
    const double scale = s->level ? s->scale * (1 << s->level[i]) : s->scale, norm = sqrt(square) * scale;
    const int per_word = 32 / s->bits, r = s->refined, first = per_word + 2 * r;
    int8_t *bytes = (int8_t *)s->heads + i * 4 * s->step;
    int16_t *shorts = (int16_t *)s->heads + i * 2 * s->step;
    double sums[3] = {0}, own = 0;
    memset(bytes, 0, 4 * (size_t)s->words);
    for (int d = 0; d < r; d++) {
        const double value = ((const double *)y)[d] * scale, whole = V(clamped)(rint(value), cap);
        const double fine = V(clamped)(rint((value - whole) * FINE), cap), coarse = rint(whole / FINE);
        sums[0] += value * value, own += whole * whole + fine * fine + coarse * coarse;
        shorts[per_word + d] = (int16_t)whole;
        shorts[per_word + r + d] = (int16_t)(c->of_rows ? fine : coarse);
        shorts[per_word + 2 * r + d] = (int16_t)(c->of_rows ? coarse : fine);
    }
    if (s->bits == 8)
        V(round_8)(y, s->length, (float)scale, bytes + first, sums);
    else
        V(round_16)(y, r, s->length, scale, cap, shorts + first, sums);
    double tail = 0;
    if (s->length < c->values.dims) {
        for (int d = 0; d < s->length && s->bits == 8; d++) {
            const double value = (double)((const float *)y)[d] * scale;
            sums[0] += value * value;
        }
        double held = sqrt(sums[0]) - (2 * c->spill + 4 * unit) * norm;
        held = held > 0 ? held : 0;
        const double outside = norm * norm * (1 + 8 * unit) - held * held;
        tail = ceil(sqrt(outside > 0 ? outside : 0) * (up / sqrt(per_word)));
    }
    for (int d = 0; d < per_word && s->bits == 8; d++) bytes[d] = (int8_t)(tail < cap ? tail : cap);
    for (int d = 0; d < per_word && s->bits == 16; d++) shorts[d] = (int16_t)(tail < cap ? tail : cap);
    own += sums[2] + per_word * tail * tail;
    const int fits = tail <= cap && norm <= 32767 && (s->bits == 8 || own <= cap * cap);
    const float size = (float)(sqrt(sums[2]) * up);
    const double rest = sqrt(sums[1]) + (s->bits == 8 ? c->spill * norm : 0) + 2 * unit * size;
    const float residue = fits ? (float)(rest * up * up) : NEVER_FITS;
    if (!fits) memset(bytes, 0, 4 * (size_t)s->words);
    if (!c->records) {
        s->size[i] = size, s->residue[i] = residue, s->own[i] = fits ? own : 0;
        return;
    }
    int32_t *margin = c->records + (size_t)i * (size_t)c->record + s->margin, total = 0;
    const double excess = residue > s->base ? (residue - s->base) * up : 0;
    for (int d = 0; d < 4 * s->words && s->bits == 8; d++) total += bytes[d];
    margin[EXCESS] = as_int(size <= s->largest ? (float)excess : NEVER_FITS);
    margin[SIZE] = as_int(size);
    margin[TOTAL_] = 128 * total; /* centroids come as unsigned bytes, 128 more than their heads */
}

/* What a record holds beside its heads. */
static void V(open_record)(const Cutting *c, int64_t i, double square) {
    int32_t *record = c->records + (size_t)i * (size_t)c->record;
    memset(record, 0, HEADER * sizeof *record);
    record[ID] = record[PLACE] = (int32_t)i, record[LABEL] = -1;
    record[SQUARE] = as_int((float)(square * (1 - 8 * 0x1p-24)));
    record[HIGH] = as_int(FLT_MAX);
}

static void V(cut_part)(void *argument, int part, int parts) {
    enum { MANY = V(TOGETHER), AHEAD = 2 };
    const Cutting *c = argument;
    const size_t element = c->wide ? sizeof(double) : sizeof(float), dims = (size_t)c->values.dims;
    char *x = c->scratch + (size_t)part * MOST_TOGETHER * (dims + (size_t)c->lanes) * element, *turned = x + MANY * dims * element;
    const int64_t blocks = (c->count + MANY - 1) / MANY;
    for (int64_t b = blocks * part / parts; b < blocks * (part + 1) / parts; b++) {
        const int64_t first = MANY * b;
        const int many = c->count - first < MANY ? (int)(c->count - first) : MANY;
        double square[MANY];
        for (int r = 0; r < many; r++) {
            if (first + r + AHEAD < c->count) prefetch_row(&c->values, first + r + AHEAD);
            square[r] = c->wide ? V(centred_f64)(c, first + r, (double *)x + r * dims)
                                : V(centred_f32)(c, first + r, (float *)x + r * dims);
            if (!c->records) c->square[first + r] = square[r];
            else if (c->opens) V(open_record)(c, first + r, square[r]);
        }
        for (int r = many; r < MANY; r++) memset(x + r * dims * element, 0, dims * element);
        if (c->axes && c->wide) V(turn_f64)(c, (double *)x, (double *)turned);
        if (c->axes && !c->wide) V(turn_f32)(c, (float *)x, (float *)turned);
        for (int r = 0; r < many; r++) {
            const void *y = c->axes ? turned + (size_t)r * (size_t)c->lanes * element : x + r * dims * element;
            for (int s = 0; s < c->stages; s++) V(cut)(c, c->stage + s, first + r, y, square[r]);
        }
    }
}
