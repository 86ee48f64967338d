"""The words of the demo: written for calib, so free of anybody else's rights.

Training sentences are combined from word lists (:func:`training_sentences`). The held-out sentences are written by
hand; none of them can be combined from the lists.
"""

from __future__ import annotations

import math
import random

__all__ = ["HELD_OUT", "TEMPLATES", "training_sentences"]

TEMPLATES: dict[str, tuple[str, dict[str, str]]] = {
    "en": (
        "{time} {subject} {verb} {object} {place}.",
        {
            "time": "In the morning | Last winter | After lunch | Every Thursday | Just before midnight | On a rainy day | Twice a week | Long ago",
            "subject": "the young teacher | my older brother | a quiet neighbour | our choir | the village baker | a strange visitor | the chief engineer | her little daughter | that judge | the whole family | George | a few children",
            "verb": "found | could hear | painted | should measure | will bring | carefully washed | gave away | usually kept | enjoyed | could not fix | threw | showed us",
            "object": "a broken clock | the heavy yellow box | three small photographs | some fresh bread | an unusual treasure | the church bell | a pair of brown boots | the shortest path | five pages of music | a cup of black coffee | their new azure flag | the thing with feathers",
            "place": "near the bridge | under the kitchen table | on the other side of the river | at the station | between two houses | behind the theatre | in the garden | above the shop | for a young friend | without a word | by the fire | in our old village",
        },
    ),
    "de": (
        "{time} {verb} {subject} {object} {place}.",
        {
            "time": "Am Morgen | Jeden Freitag | Nach dem Essen | Im letzten Winter | Kurz vor Mitternacht | Heute | Manchmal | Zum Glück",
            "verb": "sucht | findet | bringt | zeichnet | kauft | braucht | verkauft | hört | öffnet | prüft | zeigt | wäscht",
            "subject": "der junge Lehrer | meine Schwester | ein fremder Mann | unser Nachbar | die kluge Ärztin | das kleine Mädchen | der Bäcker | Jürgen | eine alte Freundin | der Chef | die ganze Familie | niemand",
            "object": "einen alten Schlüssel | das große Buch | drei schöne Bilder | frisches Brot | die schwere Kiste | eine Tasse Tee | den kürzesten Weg | fünf gelbe Äpfel | ein Paar braune Schuhe | das neue Fahrrad | die Glocke der Kirche | einen freundlichen Hund",
            "place": "in der Küche | auf der Brücke | hinter dem Haus | am Bahnhof | zwischen zwei Bäumen | im Garten | ohne ein Wort | unter dem Tisch | in der Nähe des Flusses | vor dem Theater | für einen Freund | im alten Dorf",
        },
    ),
    "fa": (
        "{time} {subject} {object} را {place} {verb}.",
        {
            "time": "امروز | دیروز | صبح زود | هر هفته | شب گذشته | بعد از ناهار | پیش از غروب | در زمستان",
            "subject": "معلم جوان | برادر من | همسایه‌ی ما | دختر کوچک | مرد غریبه | پزشک دانا | نانوای محله | مادر مریم | دوست قدیمی او | کارگر باغ | ژاله | یک مسافر",
            "object": "کتاب تازه | کلید قدیمی | نان گرم | سه عکس زیبا | جعبه‌ی سنگین | ساعت دیواری | کفش قهوه‌ای | یک فنجان چای | کوتاه‌ترین راه | پنج سیب زرد | زنگ مدرسه | نامه‌ی بلند",
            "place": "در خانه | کنار رودخانه | پشت پنجره | روی میز | در باغ | نزدیک پل | زیر درخت | در ایستگاه | بدون حرف | برای دوستش | در روستای قدیمی | میان دو خانه",
            "verb": "پیدا کرد | فروخت | آورد | شست | نشان داد | گذاشت | دید | خواست | نگه داشت | گم کرد | فرستاد | جست",
        },
    ),
    "fr": (
        "{time}, {subject} {verb} {object} {place}.",
        {
            "time": "Ce matin | Chaque vendredi | Après le déjeuner | Un jour d'hiver | Peu avant minuit | Aujourd'hui | Parfois | Heureusement",
            "subject": "le jeune professeur | ma sœur | un homme étrange | notre voisin | la petite fille | le boulanger du village | une vieille amie | l'ingénieur | toute la famille | Jeanne | le juge | un bon musicien",
            "verb": "cherche | trouve | achète | dessine | apporte | garde | montre | oublie | entend | perd | ouvre | vend",
            "object": "une vieille clé | le grand livre | trois belles images | du pain frais | la lourde boîte | une tasse de thé | le chemin le plus court | cinq pommes jaunes | des chaussures brunes | un oignon | la cloche de l'église | un chien gentil",
            "place": "dans la cuisine | sur le pont | derrière la maison | à la gare | entre deux arbres | au jardin | sans un mot | sous la table | près du fleuve | devant le théâtre | pour un ami | dans un vieux quartier",
        },
    ),
    "es": (
        "{time} {subject} {verb} {object} {place}.",
        {
            "time": "Por la mañana | Cada viernes | Después de comer | En invierno | Antes de medianoche | Hoy | A veces | Por suerte",
            "subject": "el joven maestro | mi hermana | un hombre extraño | nuestro vecino | la niña pequeña | el panadero | una vieja amiga | la ingeniera | toda la familia | Jorge | el juez | un buen músico",
            "verb": "busca | encuentra | compra | dibuja | trae | guarda | enseña | olvida | escucha | pierde | abre | vende",
            "object": "una llave vieja | el libro grande | tres fotos bonitas | pan fresco | la caja pesada | una taza de té | el camino más corto | cinco manzanas amarillas | unos zapatos marrones | la campana de la iglesia | un perro alegre | el reloj roto",
            "place": "en la cocina | sobre el puente | detrás de la casa | en la estación | entre dos árboles | en el jardín | sin decir nada | bajo la mesa | cerca del río | delante del teatro | para un amigo | en el pueblo viejo",
        },
    ),
    "it": (
        "{time} {subject} {verb} {object} {place}.",
        {
            "time": "Di mattina | Ogni venerdì | Dopo pranzo | In inverno | Prima di mezzanotte | Oggi | A volte | Per fortuna",
            "subject": "il giovane maestro | mia sorella | un uomo strano | il nostro vicino | la bambina | il fornaio del paese | una vecchia amica | l'ingegnere | tutta la famiglia | Giorgio | il giudice | un bravo musicista",
            "verb": "cerca | trova | compra | disegna | porta | conserva | mostra | dimentica | sente | perde | apre | vende",
            "object": "una vecchia chiave | il libro grande | tre belle immagini | il pane fresco | la scatola pesante | una tazza di tè | la strada più breve | cinque mele gialle | le scarpe marroni | la campana della chiesa | un cane allegro | l'orologio rotto",
            "place": "in cucina | sul ponte | dietro la casa | alla stazione | tra due alberi | in giardino | senza parlare | sotto il tavolo | vicino al fiume | davanti al teatro | per un amico | nel paese vecchio",
        },
    ),
}
"""Language: sentence pattern, and the choices for each of its places; every combination is a correct sentence."""

HELD_OUT: dict[str, list[str]] = {
    "en": [
        "The harbour was empty when the last ship arrived.",
        "Please close the window, it is getting cold in here.",
        "She counted seven stars before the clouds came back.",
        "Nobody knows why the lights went out so early.",
        "We walked along the beach and talked about the future.",
        "The doctor asked him to breathe slowly and lie still.",
        "A small brown bird was singing on the garden wall.",
        "Could you tell me which bus goes to the museum?",
        "He wrote a long letter, but he never sent it.",
        "There are many ways to cook a simple potato.",
        "The train to the north leaves in twenty minutes.",
        "Their voices were soft, and the room was full of light.",
    ],
    "de": [
        "Der Zug nach Norden fährt in zwanzig Minuten ab.",
        "Bitte schließen Sie das Fenster, mir ist kalt.",
        "Gestern Abend haben wir lange über die Zukunft gesprochen.",
        "Niemand weiß, warum das Licht so früh ausging.",
        "Auf dem Dach saß ein kleiner Vogel und sang.",
        "Können Sie mir sagen, wo das Museum liegt?",
        "Sie schrieb einen langen Brief, aber sie schickte ihn nie ab.",
        "Das Meer war ruhig, und die Sonne ging langsam unter.",
        "Er zählte sieben Sterne, bevor die Wolken kamen.",
        "Im Herbst fallen die Blätter von den Bäumen.",
    ],
    "fa": [
        "قطار شمال بیست دقیقه‌ی دیگر حرکت می‌کند.",
        "لطفاً پنجره را ببندید، هوا سرد است.",
        "دیشب درباره‌ی آینده حرف زدیم.",
        "هیچ‌کس نمی‌داند چرا چراغ خاموش شد.",
        "پرنده‌ای روی بام آواز می‌خواند.",
        "آیا می‌دانید موزه کجاست؟",
        "او هفت ستاره را در آسمان شمرد.",
        "دریا آرام بود و خورشید غروب می‌کرد.",
        "در پاییز برگ‌ها از درختان می‌ریزند.",
        "ما با هم تا کوه پیاده رفتیم.",
    ],
    "fr": [
        "Le train du nord part dans vingt minutes.",
        "Fermez la fenêtre, s'il vous plaît, il fait froid.",
        "Hier soir, nous avons parlé de l'avenir.",
        "Personne ne sait pourquoi la lumière s'est éteinte.",
        "Un petit oiseau chantait sur le toit.",
    ],
    "es": [
        "El tren del norte sale en veinte minutos.",
        "Cierre la ventana, por favor, hace mucho frío.",
        "Anoche hablamos mucho sobre el futuro.",
        "Nadie sabe por qué se apagó la luz.",
        "Un pájaro pequeño cantaba en el tejado.",
    ],
    "it": [
        "Il treno per il nord parte tra venti minuti.",
        "Chiuda la finestra, per favore, fa molto freddo.",
        "Ieri sera abbiamo parlato a lungo del futuro.",
        "Nessuno sa perché la luce si è spenta.",
        "Un piccolo uccello cantava sul tetto.",
    ],
}
"""Language: sentences that are never trained on."""


def training_sentences(language: str, count: int, seed: int) -> list[str]:
    """``count`` different sentences, drawn evenly; the same seed draws the same.

    Raises:
        KeyError: the language has no template.
        ValueError: more sentences are asked for than there are combinations.
    """
    pattern, places = TEMPLATES[language]
    words = {place: choices.split(" | ") for place, choices in places.items()}
    combinations = range(math.prod(len(choices) for choices in words.values()))
    sentences = []
    for number in random.Random(f"{language}/{seed}").sample(combinations, count):  # noqa: S311 - not a secret
        rest, picked = number, {}
        for place, choices in words.items():
            rest, index = divmod(rest, len(choices))
            picked[place] = choices[index]
        sentences.append(pattern.format(**picked))
    return sentences
