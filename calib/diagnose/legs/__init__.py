"""Four mels and the legs between them: which side of the sound is wrong, front end, model or vocoder.

T is the target that training saw, P the teacher-forced prediction, F the free-running one, and V what the vocoder
expects: the recording through the vocoder's own front end. P against T alone is blind to T != V, the commonest failure.

Data flow::

    T, recordings --place--> T and V on one time grid --distance--> Distance --grade--> Leg T-V
    P (calibrated)           the same grid                                              Leg P-V
    Diagnosis of P on T                                                                 Leg P-T
    F, T --warp-->                                                                      Leg F-T
    legs --blame--> one sentence: whom to blame, and what to do next

Arrays in, dataclasses out: `place`, `distance`, `free`, `blame`.
"""
