"""search/question.py: what is asked stands in the address, and comes back from it."""

from hypothesis import given
from hypothesis import strategies as st

from search.question import LONGEST, MOST_CONDITIONS, TOPS, Question, conditions_of, parted

text = st.text(st.characters(codec="utf-8"), max_size=30)


@given(text, text, st.lists(text.filter(bool), max_size=3), st.sampled_from(TOPS))
def test_an_address_holds_the_question(words, like, where, top):
    found = Question.of_address(Question(words, like, tuple(where), top).address())
    assert (found.like, found.where, found.top) == (like, tuple(where), top)
    assert found.words == ("" if like else words)  # a product goes before words


def test_addresses_as_they_look():
    assert Question().address() == ""
    assert Question("red bag", where=("gender=Women", "colour!=Black")).address() == (
        "?q=red+bag&where=gender%3DWomen&where=colour%21%3DBlack"
    )
    assert Question(like="a&b", top=50).address() == "?like=a%26b&top=50"


def test_what_is_no_question_is_left_out():
    assert Question.of_address("?top=1000000&other=1&q") == Question()
    assert Question.of_address("") == Question()
    assert len(Question.of_address("?q=" + "x" * 10_000).words) == LONGEST


def test_menus_show_what_they_can_and_the_rest_stands_as_it_is_typed():
    menus = {"gender": ["Men", "Women"], "colour": ["Red", "Black"]}
    where = ("gender=Women", "colour!=Red", "gender=Men", "size=a=b", "colour=Black")
    chosen, others = parted(where, menus)
    assert chosen == {"gender": "Women", "colour": "Black"} and others == "colour!=Red,gender=Men,size=a=b"
    assert sorted(conditions_of(chosen, others)) == sorted(where)
    assert conditions_of({"gender": "", "colour": None}, " ,, ") == ()
    assert conditions_of({}, 'title="A, B", colour!=Red') == ('title="A', 'B"', "colour!=Red")
    assert conditions_of({}, '"title=A, B", colour!=Red') == ("title=A, B", "colour!=Red")


def test_an_address_with_line_breaks_is_read_as_one_line():
    question = Question.of_address("?where=colour%3Dred%0D%0Aand%20blue&where=shape%3Ddisc%0D")
    chosen, others = parted(question.where, {})
    assert [condition.split() for condition in conditions_of(chosen, others)] == [
        ["colour=red", "and", "blue"],
        ["shape=disc"],
    ]


conditions = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=20)


@given(st.lists(conditions.map(str.strip).filter(bool), max_size=4))
def test_any_condition_can_be_typed(where):
    chosen, others = parted(where, {})
    assert chosen == {} and list(conditions_of(chosen, others)) == where


def test_no_more_is_read_than_anyone_types():
    found = Question.of_address("?q=red&" + "&".join(f"where=a{number}=" + "x" * 1000 for number in range(1000)))
    assert len(found.where) == MOST_CONDITIONS and all(len(condition) == LONGEST for condition in found.where)
    assert len(conditions_of({}, "gender=Men," * 10_000)) == MOST_CONDITIONS
