/* Undoes isa.h, before it is included for the next instruction set. */
#undef ADD
#undef DOT16
#undef DOT8
#undef FOUR
#undef LANES
#undef LOAD
#undef LOAD_BF16
#undef LOAD_F16
#undef LOAD_I8
#undef LOAD_U8
#undef MUL_ADD
#undef SET1
#undef SUB
#undef TAKE_BEST
#undef TOTAL
#undef ZERO
