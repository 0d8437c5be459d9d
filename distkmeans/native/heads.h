/* Integer heads of values: what Cut.heads of kernels/head.py does, in one pass over the values. */

/* Columns of axes that are computed together, for FOUR values at a time. */
enum { V(STRIPE) = 16 };
#define WIDEN(real, convert, stored) \
    for (int d = 0; d < v->dims; d++) x[d] = (real)convert(((const stored *)from)[d]) - centre[d]
#define TURN(name, real)                                                                                          \
    typedef real V(name##_vec) __attribute__((vector_size(64), aligned(sizeof(real))));                           \
    static void V(turn_##name)(const Cutting *c, const real *x, real *turned) {                                   \
        enum { LANE = 64 / sizeof(real), VECS = V(STRIPE) / LANE };                                               \
        const int dims = c->values.dims;                                                                          \
        for (int at = 0; at < c->lanes; at += V(STRIPE)) {                                                        \
            const real *axes = (const real *)c->axes + (size_t)at * dims;                                         \
            V(name##_vec) sum[4][VECS] = {{{0}}};                                                                 \
            for (int d = 0; d < dims; d++)                                                                        \
                for (int v = 0; v < VECS; v++) {                                                                  \
                    const V(name##_vec) axis = *(const V(name##_vec) *)(axes + (size_t)d * V(STRIPE) + LANE * v); \
                    for (int r = 0; r < 4; r++) sum[r][v] += axis * x[(size_t)r * dims + d];                      \
                }                                                                                                 \
            for (int r = 0; r < 4; r++) memcpy(turned + (size_t)r * c->lanes + at, sum[r], sizeof sum[r]);        \
        }                                                                                                         \
    }                                                                                                             \
    /* The value less the centre, |X|^2. */                                                                       \
    static double V(centred_##name)(const Cutting *c, int64_t i, real *x) {                                       \
        const Rows *v = &c->values;                                                                               \
        const char *from = (const char *)v->data + i * v->stride * row_bytes(v->type);                            \
        const real *centre = c->centre;                                                                           \
        switch (v->type) {                                                                                        \
        case F16: WIDEN(real, half_to_float, uint16_t); break;                                                    \
        case BF16: WIDEN(real, bfloat_to_float, uint16_t); break;                                                 \
        case U8: WIDEN(real, (real), uint8_t); break;                                                             \
        case I8: WIDEN(real, (real), int8_t); break;                                                              \
        default: WIDEN(real, (real), float);                                                                      \
        }                                                                                                         \
        double lane[8] = {0}, sum = 0;                                                                            \
        for (int d = 0; d + 8 <= v->dims; d += 8)                                                                 \
            for (int l = 0; l < 8; l++) lane[l] += (double)x[d + l] * (double)x[d + l];                           \
        for (int d = v->dims / 8 * 8; d < v->dims; d++) lane[0] += (double)x[d] * (double)x[d];                   \
        for (int l = 0; l < 8; l++) sum += lane[l];                                                               \
        return sum;                                                                                               \
    }
TURN(f64, double)
TURN(f32, float)
#undef TURN
#undef WIDEN

static inline double V(clamped)(double value, double cap) { return value < -cap ? -cap : value > cap ? cap : value; }

/* Coordinates from..to of one value, unrefined: rounded into the head, their sums of squares added up: of the scaled ones,
   of what is rounded off, and of the integers. */
#define ROUND(name, real, type)                                                                                   \
    static void V(round_##name)(const real *y, int from, int to, double scale, double cap, type *head, double *sums) { \
        double inside[8] = {0}, rest[8] = {0}, size[8] = {0};                                                     \
        for (int d = from; d < to; d += 8) {                                                                      \
            double value[8] = {0};                                                                                \
            if (d + 8 <= to)                                                                                      \
                for (int l = 0; l < 8; l++) value[l] = y[d + l] * scale;                                          \
            else                                                                                                  \
                for (int l = 0; d + l < to; l++) value[l] = y[d + l] * scale;                                     \
            type whole[8];                                                                                        \
            for (int l = 0; l < 8; l++) {                                                                         \
                const double near = V(clamped)(rint(value[l]), cap), off = value[l] - near;                       \
                inside[l] += value[l] * value[l], rest[l] += off * off, size[l] += near * near;                   \
                whole[l] = (type)(int32_t)near;                                                                   \
            }                                                                                                     \
            memcpy(head + d, whole, sizeof(type) * (size_t)(d + 8 <= to ? 8 : to - d));                           \
        }                                                                                                         \
        for (int l = 0; l < 8; l++) sums[0] += inside[l], sums[1] += rest[l], sums[2] += size[l];                 \
    }
ROUND(8, float, int8_t)
ROUND(16, double, int16_t)
#undef ROUND

/* One value's head, from its coordinates: double for 16 bits, float for 8. */
static void V(cut)(const Cutting *c, const Stage *s, int64_t i, const void *y, double square) {
    const double cap = s->bits == 8 ? 127 : 32767, up = 1 + 0x1p-16, unit = 0x1p-24, norm = sqrt(square) * s->scale;
    const int per_word = 32 / s->bits, r = s->refined, first = per_word + 2 * r;
    int8_t *bytes = (int8_t *)s->heads + i * 4 * s->step;
    int16_t *shorts = (int16_t *)s->heads + i * 2 * s->step;
    double sums[3] = {0}, own = 0;
    memset(bytes, 0, 4 * (size_t)s->step);
    for (int d = 0; d < r; d++) {
        const double value = ((const double *)y)[d] * s->scale, whole = V(clamped)(rint(value), cap);
        const double fine = V(clamped)(rint((value - whole) * FINE), cap), coarse = rint(whole / FINE);
        sums[0] += value * value, own += whole * whole + fine * fine + coarse * coarse;
        shorts[per_word + d] = (int16_t)whole;
        shorts[per_word + r + d] = (int16_t)(c->of_rows ? fine : coarse);
        shorts[per_word + 2 * r + d] = (int16_t)(c->of_rows ? coarse : fine);
    }
    if (s->bits == 8)
        V(round_8)(y, r, s->length, s->scale, cap, bytes + first, sums);
    else
        V(round_16)(y, r, s->length, s->scale, cap, shorts + first, sums);
    double tail = 0;
    if (s->length < c->values.dims) {
        double held = sqrt(sums[0]) - (2 * c->spill + 4 * unit) * norm;
        held = held > 0 ? held : 0;
        const double outside = norm * norm * (1 + 8 * unit) - held * held;
        tail = ceil(sqrt(outside > 0 ? outside : 0) * (up / sqrt(per_word)));
    }
    for (int d = 0; d < per_word && s->bits == 8; d++) bytes[d] = (int8_t)(tail < cap ? tail : cap);
    for (int d = 0; d < per_word && s->bits == 16; d++) shorts[d] = (int16_t)(tail < cap ? tail : cap);
    own += sums[2] + per_word * tail * tail;
    const int fits = tail <= cap && norm <= 32767 && (s->bits == 8 || own <= cap * cap);
    s->size[i] = (float)(sqrt(sums[2]) * up);
    const double rest = sqrt(sums[1]) + (s->bits == 8 ? c->spill * norm : 0) + 2 * unit * s->size[i];
    s->residue[i] = fits ? (float)(rest * up * up) : 1e30f;
    s->own[i] = fits ? own : 0;
    if (!fits) memset(bytes, 0, 4 * (size_t)s->step);
}

static void V(cut_part)(void *argument, int part, int parts) {
    const Cutting *c = argument;
    const size_t element = c->wide ? sizeof(double) : sizeof(float), dims = (size_t)c->values.dims;
    char *x = c->scratch + (size_t)part * 4 * (dims + (size_t)c->lanes) * element, *turned = x + 4 * dims * element;
    const int64_t blocks = (c->count + 3) / 4;
    for (int64_t b = blocks * part / parts; b < blocks * (part + 1) / parts; b++) {
        const int many = c->count - 4 * b < 4 ? (int)(c->count - 4 * b) : 4;
        for (int r = 0; r < many; r++)
            c->square[4 * b + r] = c->wide ? V(centred_f64)(c, 4 * b + r, (double *)x + r * dims)
                                           : V(centred_f32)(c, 4 * b + r, (float *)x + r * dims);
        for (int r = many; r < 4; r++) memset(x + r * dims * element, 0, dims * element);
        if (c->axes && c->wide) V(turn_f64)(c, (double *)x, (double *)turned);
        if (c->axes && !c->wide) V(turn_f32)(c, (float *)x, (float *)turned);
        for (int r = 0; r < many; r++) {
            const void *y = c->axes ? turned + (size_t)r * (size_t)c->lanes * element : x + r * dims * element;
            for (int s = 0; s < c->stages; s++) V(cut)(c, c->stage + s, 4 * b + r, y, c->square[4 * b + r]);
        }
    }
}
